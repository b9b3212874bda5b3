"""What the units beyond those that a plan includes have come to so far, as the next invoice will say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

from billing.ceilings import HALF, invoiced, metered_price, tiers_of, units_within
from billing.models import Entitlement, Meter, PlanQuota
from billing.subscriptions import PlanSubscription, subscription_giving


@dataclass(frozen=True, slots=True)
class Overage:
    """`amount` is in the currency's minor unit, before discounts and taxes.

    `units` are those beyond the included ones; where they are `within` what is included now, those that the customer's
    price charges all the same.
    """

    units: int
    amount: int
    currency: str
    within: bool = False


def cost_of(units: int, tiers: Iterable[Mapping[str, Any]]) -> int:
    """Return what `units` cost by graduated `tiers`, as in `PlanPrice.terms`, in minor units.

    Stripe puts each tier on a line of its own and rounds it, half up.
    """
    amount = lower = 0
    for tier in tiers:
        upper = units if tier["up_to"] == "inf" else min(int(tier["up_to"]), units)
        amount += floor(Fraction(Decimal(tier["unit_amount_decimal"])) * (upper - lower) + HALF)
        lower = upper
        if lower == units:
            break
    return amount


@dataclass(frozen=True, slots=True)
class Charging:
    """By what a subscription bills a meter's units. `free` of a month cost nothing."""

    subscription: PlanSubscription
    tiers: list[dict[str, Any]]
    free: int


def find_charging(entitlement: Entitlement, meter: Meter) -> Charging | None:
    """Return by what units go on an invoice now; None where they do not, or cost nothing however many they are.

    The price that the customer is on decides, whatever the plan or an override includes: so it is at Stripe.
    """
    if not entitlement.subscription_id:
        return None
    subscription = subscription_giving(entitlement)
    price = metered_price(subscription, meter) if subscription else None
    tiers = tiers_of(price, meter) if price else None
    free = units_within(0, tiers) if tiers else None
    if subscription is None or tiers is None or free is None or subscription.trial_ends_at:
        return None
    return Charging(subscription, tiers, free)


def charged_within(entitlement: Entitlement, meter: Meter) -> Charging | None:
    """Return by what some of the units that the entitlement includes are charged all the same; None where none are."""
    quota = entitlement.quotas.get(meter.slug)
    charging = find_charging(entitlement, meter) if quota else None
    if quota is None or charging is None:
        return None
    return charging if quota["included"] is None or quota["included"] > charging.free else None


def find_overage(
    entitlement: Entitlement, meter: Meter, charging: Charging | None, *, used: int, since: datetime
) -> Overage | None:
    """Return what a period's units have come to; None where none is beyond what is included, or none is billed.

    `since` is when the first of the periods began whose units count in this one.
    """
    quota = entitlement.quotas.get(meter.slug)
    if not quota or charging is None:
        return None
    bills = quota["overage"] == PlanQuota.Overage.BILL
    included = quota["included"] if bills else charging.free
    if used <= min(included, charging.free):
        return None
    before = invoiced(entitlement.organization, charging.subscription, meter, since=since)
    amount = before.amount + cost_of(max(used - before.units, 0), charging.tiers)
    is_within = used <= included or not bills
    if is_within and not amount:
        return None
    units = used - (charging.free if is_within else included)
    return Overage(units, amount, charging.subscription.currency, is_within)
