"""What must fit together in a plan before it is saved or published: its quotas, fees and overage prices; and what an
override may give to whom."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.core.exceptions import ValidationError

from billing.ceilings import can_charge
from billing.models import Meter, Plan, PlanQuota
from billing.models.plans import check_tiers
from billing.subscriptions import PlanSubscription


@dataclass(frozen=True, slots=True)
class Quota:
    meter: Meter
    included: int | None
    overage: str


@dataclass(frozen=True, slots=True)
class Overage:
    """A metered price: `tiers` are (up_to, unit_amount), in the order in which they were given."""

    meter: Meter
    currency: str
    tiers: tuple[tuple[int | None, Decimal], ...]


def quota_faults(quotas: Iterable[Quota], *, is_sold: bool) -> list[str]:
    """Return a sentence for each quota that cannot be as it is."""
    return [
        f"{quota.meter}: a plan without a fee has no invoice to put further {quota.meter.unit}s on. "
        "Refuse them, or give the plan a fee, of 0 if need be."
        for quota in quotas
        if quota.overage == PlanQuota.Overage.BILL and not is_sold
    ]


def override_faults(quotas: Iterable[Quota], *, subscription: PlanSubscription | None) -> list[str]:
    """Return a sentence for each quota of an override that bills what the customer's subscription has no price for."""
    return [
        f"{quota.meter}: further {quota.meter.unit}s would be let in and be on no invoice, since the customer "
        f"{'pays for a plan with' if subscription else 'has no subscription and so'} no price for them. "
        "Refuse them, or include as many as are meant."
        for quota in quotas
        if quota.overage == PlanQuota.Overage.BILL
        and (subscription is None or not can_charge(subscription, quota.meter))
    ]


def overage_faults(
    quotas: Sequence[Quota], overages: Sequence[Overage], *, currencies: Iterable[str]
) -> list[str]:
    """Return a sentence for each overage price that does not fit its quota, or is missing in a currency."""
    by_meter = {quota.meter: quota for quota in quotas}
    found = []
    for each in overages:
        fault = fault_of(each, by_meter.get(each.meter)) if each.tiers else ""
        if fault:
            found.append(f"{each.meter} in {each.currency}: {fault}")
    priced = {(each.meter, each.currency) for each in overages if each.tiers}
    found += [
        f"Say what a {quota.meter.unit} beyond the included {quota.included:,} costs in {currency}."
        for quota in quotas
        if quota.overage == PlanQuota.Overage.BILL and quota.included is not None
        for currency in sorted(set(currencies))
        if (quota.meter, currency) not in priced
    ]
    return found


def fault_of(overage: Overage, quota: Quota | None) -> str:
    if quota is None:
        return f"the plan has no quota of {overage.meter.unit}s that these tiers could lie beyond. Add one first."
    if quota.overage == PlanQuota.Overage.BLOCK and quota.included is not None:
        return (
            f"{overage.meter.unit}s beyond the included {quota.included:,} are refused, so nothing can be "
            "charged for them. Bill further units, or empty the tiers."
        )
    try:
        check_tiers(overage.tiers, included=quota.included)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def faults_of(plan: Plan) -> list[str]:
    """Return what is wrong with a plan as it is stored, which a shell or an older release may have left so."""
    quotas = [Quota(q.meter, q.included, q.overage) for q in plan.quotas.select_related("meter")]
    prices = list(plan.prices.select_related("meter").prefetch_related("tiers"))
    overages = [
        Overage(p.meter, p.currency, tuple((tier.up_to, tier.unit_amount) for tier in p.tiers.all()))
        for p in prices
        if p.meter
    ]
    currencies = {p.currency for p in prices if not p.meter}
    return [
        *quota_faults(quotas, is_sold=bool(currencies)),
        *overage_faults(quotas, overages, currencies=currencies),
    ]
