"""How many units spend caps and overrides allow: by the price that the customer is on, to what the invoice will say."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

from djstripe import models as djstripe

from accounts.models import Organization
from billing.models import Entitlement, Meter, PlanQuota, PublishedPrice, SpendCap
from billing.subscriptions import PlanSubscription, find_live_subscription, subscription_of

Quotas = dict[str, dict[str, Any]]
HALF = Fraction(1, 2)


class Invoiced(NamedTuple):
    """What invoices of the period hold already: a change of price closes the account of the one before.

    Not `is_whole`, one of them has more lines than the mirror.
    """

    units: int
    amount: int
    is_whole: bool = True


def units_within(amount: int, tiers: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the largest number of units that cost at most `amount` minor units; None where any number does.

    Graduated `tiers` as in `PlanPrice.terms`, counted from the first unit. Stripe puts each tier on a line of
    its own and rounds it, half up. So both the exact sum and the sum of the rounded lines have to fit.
    """
    exact, rounded = Fraction(amount), amount
    lower = 0
    for tier in tiers:
        upper = None if tier["up_to"] == "inf" else int(tier["up_to"])
        unit = Fraction(Decimal(tier["unit_amount_decimal"]))
        if unit:
            # The last k with k * unit <= exact and with k * unit rounded half up <= rounded.
            fitting = min(floor(exact / unit), ceil((rounded + HALF) / unit) - 1)
            if upper is None or fitting < upper - lower:
                return lower + fitting
            cost = unit * (upper - lower)
            exact -= cost
            rounded -= floor(cost + HALF)
        if upper is None:
            return None
        lower = upper
    return lower


def refuse_unbilled(quotas: Quotas, *, own: Quotas, subscription: PlanSubscription | None) -> Quotas:
    """Return the quotas with further units refused where an override bills what no invoice would hold.

    So it is where the `subscription` that gives has no price for them, or none gives. `own` are those without
    overrides, which the plan's own rules look after.
    """
    billed = {slug for slug, quota in quotas.items() if quota["overage"] == PlanQuota.Overage.BILL}
    given = [slug for slug in billed if quotas[slug] != own.get(slug)]
    if not given:
        return quotas
    meters = Meter.objects.filter(slug__in=given)
    refused = {m.slug for m in meters if subscription is None or not can_charge(subscription, m)}
    return {
        slug: quota | {"overage": PlanQuota.Overage.BLOCK.value} if slug in refused else quota
        for slug, quota in quotas.items()
    }


def apply_caps(
    quotas: Quotas, caps: Sequence[SpendCap], subscription: PlanSubscription | None, *, since: datetime
) -> Quotas:
    """Return the quotas with `spend_cap` beside those that have a cap which the customer's price can reach.

    The price decides, not the quota: where an override or a newer plan includes more than the price does, or bills
    nothing, Stripe charges by the price all the same. `since` is when the first of the periods began whose units
    count in this one.
    """
    applied = {slug: dict(quota) for slug, quota in quotas.items()}
    for cap in caps:
        quota = applied.get(cap.meter.slug)
        if quota and subscription:
            included, bills = quota["included"], quota["overage"] == PlanQuota.Overage.BILL
            ceiling = find_ceiling(cap, included, subscription, since=since)
            if ceiling is not None and (bills or included is None or ceiling < included):
                quota["spend_cap"] = ceiling
    return applied


def find_ceiling(
    cap: SpendCap, included: int | None, subscription: PlanSubscription, *, since: datetime
) -> int | None:
    """Return the period's last unit that the cap allows, None where no number of units reaches it.

    Where it cannot be told what a unit costs, or what was invoiced of the period, or the cap is in another currency
    than is billed, nothing beyond the included units is allowed: the customer asked not to pay more, and more calls
    can be had by setting the cap anew, or by doing without. Unlimited units are all included.
    """
    price = metered_price(subscription, cap.meter)
    if price is None or subscription.trial_ends_at:
        return None  # Nothing of the meter goes on an invoice.
    tiers = tiers_of(price, cap.meter)
    if tiers is None:
        return included
    free = units_within(0, tiers)
    nothing_more = free if included is None else included if free is None else min(included, free)
    if cap.currency != subscription.currency:
        return nothing_more
    before = invoiced(cap.organization, subscription, cap.meter, since=since)
    rest = units_within(max(cap.amount - before.amount, 0), tiers)
    if rest is None:
        return None
    if not before.is_whole:
        return nothing_more
    allowed = before.units + rest
    if subscription.data.get("pending_update"):
        # Should the change come to nothing, the invoice is void and its units count by the old price again.
        whole = units_within(cap.amount, tiers)
        allowed = allowed if whole is None else min(whole, allowed)
    return allowed


class CapLevel(NamedTuple):
    """A spend cap, in the currency's minor unit, and at how many units each percentage of it is reached.

    `free` of the period's units cost nothing.
    """

    amount: int
    currency: str
    free: int
    units: dict[int, int]


def find_cap_levels(entitlement: Entitlement, meter: Meter, *, levels: Iterable[int]) -> CapLevel | None:
    """Return the units that cost each of `levels`, in percent of the customer's spend cap; None without one that stops.

    None too of one in another currency than is billed: it lets nothing through, whatever that would cost.

    As `find_ceiling` has it: a level is reached with the last unit that its part of the money pays for, where that is
    one that costs anything, and all of it with the last unit that is let through.
    """
    stops_at = entitlement.quotas[meter.slug].get("spend_cap")
    organization = entitlement.organization
    cap = organization.spend_caps.filter(meter=meter).select_related("meter", "organization").first()
    subscription = find_live_subscription(organization)
    if stops_at is None or cap is None or subscription is None or cap.currency != subscription.currency:
        return None
    included = entitlement.quotas[meter.slug]["included"]

    def paid_by(percent: int) -> int | None:
        part = SpendCap(
            organization=organization, meter=meter, amount=cap.amount * percent // 100, currency=cap.currency
        )
        return find_ceiling(part, included, subscription, since=entitlement.counted_starts[0])

    free, units = paid_by(0) or 0, {}
    for level in levels:
        reached = paid_by(level)
        # A first unit may cost more than the level: it is reached by that one.
        units[level] = stops_at if level == 100 or reached is None else max(reached, free + 1)
    return CapLevel(cap.amount, cap.currency, free, units)


def metered_price(subscription: PlanSubscription, meter: Meter) -> dict[str, Any] | None:
    """Return Stripe's price by which the subscription bills the meter, None where it does not."""
    prices = (item["price"] for item in subscription.items)
    wanted = meter.stripe_meter_id
    return next((p for p in prices if wanted and p["recurring"].get("meter") == wanted), None)


def can_charge(subscription: PlanSubscription, meter: Meter) -> bool:
    """Whether some number of the meter's units costs anything. A price that Tollgate does not know is taken to."""
    price = metered_price(subscription, meter)
    tiers = tiers_of(price, meter) if price else None
    return price is not None and (tiers is None or units_within(0, tiers) is not None)


def tiers_of(price: Mapping[str, Any], meter: Meter) -> list[dict[str, Any]] | None:
    """Return a price's tiers, None where it is none that Tollgate has published and so knows."""
    known = PublishedPrice.objects.filter(stripe_price_id=price["id"], meter=meter).first()
    if known is None or not known.terms:
        return None
    flat = {"up_to": "inf", "unit_amount_decimal": str(known.terms.get("unit_amount", 0))}
    return list(known.terms.get("tiers") or [flat])


def invoiced(
    organization: Organization, subscription: PlanSubscription, meter: Meter, *, since: datetime
) -> Invoiced:
    """Return what of the meter, used from `since` on, is on the subscription's invoices already.

    So it is after a change of plan in mid-month: Stripe bills what was used and counts the new price's tiers
    from 0, while the period here goes on.
    """
    units = amount = 0
    is_whole = True
    start = int(since.timestamp())
    rows = djstripe.Invoice.objects.filter(customer__subscriber=organization, created__gte=since)
    for data in rows.values_list("stripe_data", flat=True):
        if data["status"] == "void" or subscription_of(data) != subscription.id:
            continue
        # What a renewal bills was used before.
        is_whole = is_whole and (
            data["billing_reason"] == "subscription_cycle" or not data["lines"].get("has_more")
        )
        for line in data["lines"]["data"]:
            details = (line.get("pricing") or {}).get("price_details") or {}
            if details.get("product") == meter.product_id and line["period"]["start"] >= start:
                units += line["quantity"] or 0
                amount += line["amount"]
    return Invoiced(units, amount, is_whole)
