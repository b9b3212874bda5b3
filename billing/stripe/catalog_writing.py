"""The changes of a publication, carried out one call each, and noted here."""

from collections.abc import Callable, Mapping
from typing import Any

from djstripe import models as djstripe

from accounts import clock
from billing.models import Meter, PlanPrice, PublishedPrice
from billing.publication import (
    AdoptPrice,
    ArchivePrice,
    Change,
    CreateMeter,
    CreatePrice,
    CreateProduct,
    KeepPrice,
    UpdateMeter,
    UpdateProduct,
)
from billing.publishing import PLAN_KEY
from billing.stripe.client import get_client, metadata_of
from billing.terms import Terms


def carry_out(change: Change) -> None:
    """Do one change at Stripe and note the outcome in our rows. Raises Stripe's own errors."""
    DOERS[type(change)](change)


def create_meter(change: CreateMeter) -> None:
    created = get_client().v1.billing.meters.create(
        {
            "display_name": change.display_name,
            "event_name": change.event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
    )
    note_meter(change.slug, created.id)


def update_meter(change: UpdateMeter) -> None:
    meters = get_client().v1.billing.meters
    if change.reactivates:
        meters.reactivate(change.meter_id)
    if change.renames:
        meters.update(change.meter_id, {"display_name": change.display_name})
    note_meter(change.slug, change.meter_id)


def note_meter(slug: str, meter_id: str) -> None:
    Meter.objects.filter(slug=slug).update(stripe_meter_id=meter_id)


def create_product(change: CreateProduct) -> None:
    created = get_client().v1.products.create(
        {"id": change.product_id, "name": change.name, "description": change.description}
    )
    djstripe.Product.sync_from_stripe_data(created)


def update_product(change: UpdateProduct) -> None:
    texts: Any = change.texts
    djstripe.Product.sync_from_stripe_data(get_client().v1.products.update(change.product_id, texts))


def adopt_price(change: AdoptPrice) -> None:
    """Nothing is left to do: the row was changed when the publication was drafted."""


def create_price(change: CreatePrice) -> None:
    row = PlanPrice.objects.select_related("plan", "meter").get(lookup_key=change.lookup_key)
    terms = change.terms
    params: Any = {
        "product": change.product_id,
        "currency": terms["currency"],
        "recurring": {"interval": terms["interval"]},
        "lookup_key": change.lookup_key,
        "transfer_lookup_key": True,
        "metadata": {PLAN_KEY: row.plan.slug},
    }
    if row.meter:
        params["recurring"] |= {"usage_type": "metered", "meter": row.meter.stripe_meter_id}
    if "tiers" in terms:
        params |= {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": terms["tiers"]}
    else:
        params["unit_amount"] = terms["unit_amount"]
    created = get_client().v1.prices.create(params)
    note_price(row, created, terms, replaces=change.replaces)


def keep_price(change: KeepPrice) -> None:
    row = PlanPrice.objects.select_related("plan", "meter").get(lookup_key=change.lookup_key)
    params: Any = {}
    if change.takes_key:
        params |= {"lookup_key": change.lookup_key, "transfer_lookup_key": True}
    if change.activates:
        params["active"] = True
    prices = get_client().v1.prices
    kept = prices.update(change.price_id, params) if params else prices.retrieve(change.price_id)
    note_price(row, kept, change.terms)


def archive_price(change: ArchivePrice) -> None:
    archived = get_client().v1.prices.update(change.price_id, {"active": False})
    djstripe.Price.sync_from_stripe_data(archived)
    PublishedPrice.objects.filter(stripe_price_id=change.price_id).update(archived_at=clock.now())


def note_price(row: PlanPrice, price: Any, terms: Terms, *, replaces: str | None = None) -> None:
    """Let `price` be what the row has at Stripe, and what it had be one of the past."""
    mirror_price(price)
    own_product = row.meter.product_id if row.meter else row.plan.product_id
    made_here = PLAN_KEY in metadata_of(price) or price["product"] == own_product
    facts = {"plan": row.plan, "meter": row.meter, "product_id": price["product"], "terms": terms}
    current = {**facts, "retired_at": None, "archived_at": None}
    PublishedPrice.objects.update_or_create(
        stripe_price_id=price["id"],
        defaults=current,
        create_defaults={**current, "is_adopted": not made_here},
    )
    retire(row, {row.stripe_price_id, replaces} - {None, price["id"]}, product_id=price["product"])
    row.stripe_price_id, row.published_terms = price["id"], terms
    row.save(update_fields=["stripe_price", "published_terms"])
    if row.meter is None and row.plan.stripe_product_id != price["product"]:
        row.plan.stripe_product_id = price["product"]
        row.plan.save(update_fields=["stripe_product"])


def retire(row: PlanPrice, price_ids: set[str | None], *, product_id: str) -> None:
    """Note since when prices are sold no more, also one whose creation was never answered."""
    for price_id in price_ids:
        facts = {"plan": row.plan, "meter": row.meter, "product_id": product_id}
        if price_id == row.stripe_price_id:
            facts["terms"] = row.published_terms
        price, is_new = PublishedPrice.objects.get_or_create(stripe_price_id=price_id, defaults=facts)
        if is_new or price.retired_at is None:
            price.retired_at = clock.now()
            price.save(update_fields=["retired_at"])


def mirror_price(price: Any, product: Any = None) -> None:
    """Copy a price into the mirror, its product before it."""
    if product is not None:
        djstripe.Product.sync_from_stripe_data(product)
    elif not djstripe.Product.objects.filter(id=price["product"]).exists():
        djstripe.Product.sync_from_stripe_data(get_client().v1.products.retrieve(price["product"]))
    djstripe.Price.sync_from_stripe_data(price)


DOERS: Mapping[type[Change], Callable[[Any], None]] = {
    AdoptPrice: adopt_price,
    ArchivePrice: archive_price,
    CreateMeter: create_meter,
    CreatePrice: create_price,
    CreateProduct: create_product,
    KeepPrice: keep_price,
    UpdateMeter: update_meter,
    UpdateProduct: update_product,
}
