"""What Stripe has of meters, products and prices, as plain data."""

from collections.abc import Callable, Iterable
from typing import Any

from billing.errors import StripeRejected
from billing.models import Plan, PlanPrice
from billing.publishing import Snapshot, earlier_prices, retired_prices
from billing.stripe.client import get_client, translated_errors

TIERS: Any = ["data.tiers"]  # Without asking for them prices come without their tiers.
FEW = 10  # As many lookup keys as Stripe takes at once.


def read(plans: Iterable[Plan]) -> Snapshot:
    """Return what Stripe has of everything that publishing these plans is about."""
    plans = list(plans)
    rows = list(PlanPrice.objects.filter(plan__in=plans).select_related("plan", "meter"))
    snapshot = Snapshot(meters=list_meters())
    products = {row.meter.product_id for row in rows if row.meter}
    for row in rows:
        products |= {row.plan.product_id, row.plan.stripe_product_id or row.plan.product_id}
    for product_id in sorted(products):
        product = find_product(product_id)
        if product is not None:
            snapshot.products[product_id] = product
    keys = sorted(row.lookup_key for row in rows)
    for start in range(0, len(keys), FEW):
        snapshot.prices |= {price["id"]: price for price in list_prices(keys[start : start + FEW])}
    retired = [price.stripe_price_id for price in retired_prices(plans)]
    for price_id in [*(each for row in rows for each in earlier_prices(row)), *current(rows), *retired]:
        if price_id not in snapshot.prices:
            price = find_price(price_id)
            if price is not None:
                snapshot.prices[price_id] = price
    snapshot.needed = needed(each for each in retired if snapshot.prices.get(each, {}).get("active"))
    return snapshot


def current(rows: Iterable[PlanPrice]) -> list[str]:
    return [row.stripe_price_id for row in rows if row.stripe_price_id]


def list_meters() -> list[dict[str, Any]]:
    listed = get_client().v1.billing.meters.list({"limit": 100})
    return [meter.to_dict(for_json=True) for meter in listed.auto_paging_iter()]


def list_prices(lookup_keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return the prices that have one of these lookup keys, archived ones too."""
    listed = get_client().v1.prices.list({"lookup_keys": list(lookup_keys), "limit": 100, "expand": TIERS})
    return [price.to_dict(for_json=True) for price in listed.auto_paging_iter()]


def get_price(price_id: str) -> dict[str, Any]:
    """Return a price with its tiers. Raises StripeRejected where there is none."""
    with translated_errors():
        return get_client().v1.prices.retrieve(price_id, {"expand": ["tiers"]}).to_dict(for_json=True)


def get_product(product_id: str) -> dict[str, Any]:
    with translated_errors():
        return get_client().v1.products.retrieve(product_id).to_dict(for_json=True)


def find_price(price_id: str) -> dict[str, Any] | None:
    """Return a price with its tiers, None where there is none."""
    return unless_missing(get_price, price_id)


def find_product(product_id: str) -> dict[str, Any] | None:
    return unless_missing(get_product, product_id)


def unless_missing(get: Callable[[str], dict[str, Any]], identifier: str) -> dict[str, Any] | None:
    try:
        return get(identifier)
    except StripeRejected as error:
        if error.code != "resource_missing":
            raise
        return None


def find_price_id(reference: str) -> str | None:
    """Return the id of the price that a lookup key names, `reference` itself where it is a price's id.

    None where there is no such price. Ids from before prices had theirs, plan_… or of the operator's own, are
    ids too. Raises StripeUnavailable or StripeRejected.
    """
    with translated_errors():
        named = list_prices([reference])
    price = named[0] if named else find_price(reference)
    return str(price["id"]) if price else None


def needed(price_ids: Iterable[str]) -> set[str]:
    """Return which of these prices a subscription is on, also one that is not ours, or a schedule leads to."""
    wanted = set(price_ids)
    if not wanted:
        return set()
    client = get_client().v1
    found = {each for each in wanted if client.subscriptions.list({"price": each, "limit": 1}).data}
    for schedule in client.subscription_schedules.list({"limit": 100}).auto_paging_iter():
        if schedule["status"] in {"active", "not_started"}:
            found |= {item["price"] for phase in schedule["phases"] for item in phase["items"]} & wanted
    return found
