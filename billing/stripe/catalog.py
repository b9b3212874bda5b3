"""Meters, products and prices at Stripe. Each function may be repeated: the second time changes nothing."""

from typing import Any

import stripe
from djstripe import models as djstripe

from billing.models import Meter, Plan, PlanPrice
from billing.stripe.client import get_client, translated_errors


def publish_meter(meter: Meter) -> str:
    """Make the meter exist at Stripe and return its id there."""
    with translated_errors():
        meters = get_client().v1.billing.meters
        active = meters.list({"status": "active", "limit": 100}).auto_paging_iter()
        found = next((m for m in active if m.event_name == meter.event_name), None)
        if found is None:
            found = meters.create(
                {
                    "display_name": meter.name,
                    "event_name": meter.event_name,
                    "default_aggregation": {"formula": "sum"},
                    "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                    "value_settings": {"event_payload_key": "value"},
                },
                {"idempotency_key": f"tollgate-meter-{meter.event_name}"},
            )
    if meter.stripe_meter_id != found.id:
        meter.stripe_meter_id = found.id
        meter.save(update_fields=["stripe_meter_id"])
    return found.id


def publish_plan(plan: Plan) -> list[str]:
    """Make a plan's products and prices exist at Stripe; return the lookup keys that got a new price."""
    prices = list(plan.prices.select_related("meter", "plan"))
    if not prices:
        return []
    product = publish_product(plan.product_id, name=plan.name, description=plan.description)
    if plan.stripe_product_id != product.id:
        plan.stripe_product = product
        plan.save(update_fields=["stripe_product"])
    return [price.lookup_key for price in prices if publish_price(price, plan_product_id=product.id)]


def publish_product(product_id: str, *, name: str, description: str) -> djstripe.Product:
    """Make a product exist under an id of ours, with this name. Stripe takes no empty description."""
    description = description or name
    with translated_errors():
        products = get_client().v1.products
        try:
            data = products.retrieve(product_id)
        except stripe.InvalidRequestError as error:
            if error.code != "resource_missing":
                raise
            data = products.create(
                {"id": product_id, "name": name, "description": description},
                {"idempotency_key": f"tollgate-product-{product_id}"},
            )
        if (data.name, data.description) != (name, description):
            data = products.update(product_id, {"name": name, "description": description})
        return djstripe.Product.sync_from_stripe_data(data)


def publish_price(price: PlanPrice, *, plan_product_id: str) -> bool:
    """Make a price exist under its lookup key; return whether it is a new one.

    Stripe's prices cannot be edited: a changed amount makes a new price, which takes over the lookup key.
    """
    product_id = plan_product_id
    if price.meter:
        # A product of its own, or checkout and invoice would name two lines after the plan.
        description = f"Counted by the {price.meter.unit}"
        product_id = publish_product(
            price.meter.product_id, name=price.meter.name, description=description
        ).id
    with translated_errors():
        prices = get_client().v1.prices
        listed = prices.list({"lookup_keys": [price.lookup_key], "active": True}).data
        data = listed[0] if listed else None
        is_new = data is None or not matches(data, price, product_id=product_id)
        if data is None or is_new:
            recurring: Any = {"interval": price.interval}
            if price.meter:
                recurring |= {"usage_type": "metered", "meter": publish_meter(price.meter)}
            after = data.id if data else "none"
            data = prices.create(
                {
                    "product": product_id,
                    "currency": price.currency,
                    "unit_amount": price.unit_amount,
                    "recurring": recurring,
                    "lookup_key": price.lookup_key,
                    "transfer_lookup_key": True,
                },
                {"idempotency_key": f"tollgate-price-{price.lookup_key}-{price.unit_amount}-after-{after}"},
            )
        mirrored = djstripe.Price.sync_from_stripe_data(data)
    if (price.stripe_price_id, price.published_terms) != (mirrored.id, price.terms()):
        price.stripe_price, price.published_terms = mirrored, price.terms()
        price.save(update_fields=["stripe_price", "published_terms"])
    return is_new


def matches(data: stripe.Price, price: PlanPrice, *, product_id: str) -> bool:
    recurring = data["recurring"] or {}
    return (
        data["product"] == product_id
        and data["currency"] == price.currency
        and data["unit_amount"] == price.unit_amount
        and recurring.get("interval") == price.interval
        and bool(recurring.get("meter")) == bool(price.meter)
    )
