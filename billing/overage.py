"""What the units beyond those that a plan includes have come to so far, as the next invoice will say."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

from billing.ceilings import HALF, invoiced, metered_price, tiers_of
from billing.models import Entitlement, Meter, PlanQuota
from billing.subscriptions import plan_subscriptions


@dataclass(frozen=True, slots=True)
class Overage:
    """`amount` is in the currency's minor unit, before discounts and taxes."""

    units: int
    amount: int
    currency: str


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


def find_overage(entitlement: Entitlement, meter: Meter, *, used: int, since: datetime) -> Overage | None:
    """Return what a period's units have come to; None where none is beyond what is included, or none is billed.

    `since` is when the first of the periods began whose units count in this one.
    """
    quota = entitlement.quotas.get(meter.slug)
    if not quota or quota["overage"] != PlanQuota.Overage.BILL or used <= (quota["included"] or 0):
        return None
    organization = entitlement.organization
    subscriptions = plan_subscriptions(organization)
    subscription = next((each for each in subscriptions if each.id == entitlement.subscription_id), None)
    price = metered_price(subscription, meter) if subscription else None
    tiers = tiers_of(price, meter) if price else None
    if subscription is None or tiers is None or subscription.trial_ends_at:
        return None
    before = invoiced(organization, subscription, meter, since=since)
    amount = before.amount + cost_of(max(used - before.units, 0), tiers)
    return Overage(used - (quota["included"] or 0), amount, subscription.currency)
