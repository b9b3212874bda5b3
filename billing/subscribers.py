"""Who is on which price of a plan, read from dj-stripe's mirror. Nothing here asks Stripe."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q
from djstripe import models as djstripe

from accounts.models import Organization
from billing.models import Entitlement, Meter, Plan, PlanOverride, PlanPrice
from billing.subscriptions import LIVE, PlanFinder, PlanSubscription

# Items are JSON: PostgreSQL counts them where loading every subscription would take the memory.
LIVE_ITEMS = """
FROM djstripe_subscription AS subscription
JOIN djstripe_customer AS customer ON customer.id = subscription.customer_id
CROSS JOIN jsonb_array_elements(subscription.stripe_data->'items'->'data') AS item
WHERE customer.subscriber_id IS NOT NULL AND subscription.stripe_data->>'status' = ANY(%s)
  AND item->'price'->>'id' = ANY(%s)
"""
COUNTS = f"SELECT item->'price'->>'id', count(DISTINCT subscription.id) {LIVE_ITEMS} GROUP BY 1"
TOTAL = f"SELECT count(DISTINCT subscription.id) {LIVE_ITEMS}"
SUBSCRIPTIONS = """
SELECT subscription.id
FROM djstripe_subscription AS subscription
JOIN djstripe_customer AS customer ON customer.id = subscription.customer_id
WHERE customer.subscriber_id IS NOT NULL AND EXISTS (
    SELECT 1 FROM jsonb_array_elements(subscription.stripe_data->'items'->'data') AS item
    WHERE item->'price'->>'id' = ANY(%s) OR item->'price'->>'product' = ANY(%s)
)
"""


def count_subscribers(price_ids: Iterable[str]) -> dict[str, int]:
    """Return how many live subscriptions of our customers have each of these prices; none is left out."""
    counts = dict.fromkeys(price_ids, 0)
    if counts:
        with connection.cursor() as cursor:
            cursor.execute(COUNTS, [sorted(LIVE), list(counts)])
            counts |= dict(cursor.fetchall())
    return counts


def count_on_any(price_ids: Iterable[str]) -> int:
    """Return how many live subscriptions of our customers have at least one of these prices."""
    with connection.cursor() as cursor:
        cursor.execute(TOTAL, [sorted(LIVE), list(price_ids)])
        return int(cursor.fetchone()[0])


@dataclass(frozen=True, slots=True)
class Subscriber:
    organization: Organization
    subscription: PlanSubscription


def subscribers_of(plan: Plan, *, live: bool = True) -> Iterator[Subscriber]:
    """Yield who subscribes to a plan, on whichever of its prices; with `live=False` also who did."""
    published = list(plan.published_prices.filter(meter=None))
    prices = [price.stripe_price_id for price in published]
    prices += [str(fee.stripe_price_id) for fee in plan.prices.filter(meter=None).exclude(stripe_price=None)]
    products = [plan.product_id, plan.stripe_product_id, *(price.product_id for price in published)]
    with connection.cursor() as cursor:
        cursor.execute(SUBSCRIPTIONS, [prices, products])
        ids = [identifier for (identifier,) in cursor.fetchall()]
    rows = djstripe.Subscription.objects.filter(id__in=ids).select_related("customer__subscriber")
    if live:
        rows = rows.filter(stripe_data__status__in=sorted(LIVE))
    finder = PlanFinder()
    for row in rows.order_by("id").iterator(chunk_size=500):
        if finder.find(row.stripe_data) == plan:
            yield Subscriber(row.customer.subscriber, PlanSubscription(plan, row.stripe_data))


@dataclass(frozen=True, slots=True)
class Replacement:
    """An item of a subscription, by Stripe's id, and the current price that is to take the older one's place.

    Without an item the price is one that the plan has got since.
    """

    price: PlanPrice
    item_id: str | None
    old_price_id: str | None


def replacements(
    subscription: PlanSubscription, prices: Iterable[PlanPrice], *, meters: dict[str, int]
) -> list[Replacement]:
    """Return what would bring a subscription to `prices`, those that are offered in its interval and currency.

    `meters` maps Stripe's ids of meters to our keys. Items that none of the prices is for are left alone.
    """
    items: dict[int | None, dict[str, Any]] = {None: subscription.fee_item}
    for item in subscription.items:
        meter = meters.get(item["price"]["recurring"].get("meter") or "")
        if meter is not None:
            items[meter] = item
    found = []
    for price in prices:
        current = items.get(price.meter_id)
        old = current["price"]["id"] if current else None
        if old != price.stripe_price_id:
            found.append(Replacement(price, current["id"] if current else None, old))
    return found


def meter_keys() -> dict[str, int]:
    """Return our keys of meters by Stripe's ids."""
    return dict(Meter.objects.exclude(stripe_meter_id="").values_list("stripe_meter_id", "pk"))


def why_kept(plan: Plan) -> str:
    """Return a sentence on why a plan cannot be deleted, empty where it can."""
    if plan.is_default:
        return (
            f"{plan} cannot be deleted: it is the default plan, which organizations without a paid one have."
        )
    entitled = Entitlement.objects.filter(Q(plan=plan) | Q(bought_plan=plan)).count()
    if entitled:
        return f"{plan} cannot be deleted: {counted(entitled, 'organization')} on it or bought it."
    overrides = PlanOverride.objects.filter(plan=plan).count()
    if overrides:
        return f"{plan} cannot be deleted: {counted(overrides, 'override')} giving its limits."
    subscriptions = sum(1 for _ in subscribers_of(plan, live=False))
    if subscriptions:
        return (
            f"{plan} cannot be deleted: {counted(subscriptions, 'subscription')} for it, or ended ones were."
        )
    return ""


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"
