"""Making a price that Stripe has already the fee of a plan. Changes our rows alone; Stripe is asked elsewhere."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts import clock
from billing.errors import AdoptionRefused
from billing.models import Plan, PlanPrice, PublishedPrice
from billing.publication import AdoptPrice
from billing.subscribers import count_subscribers
from billing.terms import Terms, describe, read_terms

Data = Mapping[str, Any]


def configured_price(plan: Plan) -> str:
    """Return the id in STRIPE_PRICE_ID_… that is still to be adopted, empty where there is none.

    Once adopted the variable has done its work: a price that staff publish later is not undone by it.
    """
    price_id: str = settings.STRIPE_PRICE_IDS.get(plan.slug, "")
    known = plan.published_prices.filter(stripe_price_id=price_id).exists()
    return "" if known or plan.prices.filter(stripe_price_id=price_id).exists() else price_id


def find_hindrance(price: Data, product: Data, plan: Plan) -> str:
    """Return a sentence on why a price of Stripe's cannot be the plan's fee, empty where it can."""
    recurring = price["recurring"]
    amount = price["unit_amount_decimal"]
    owner = find_owner(price["id"])
    reasons = [
        (not price["active"], "is archived: activate it at Stripe first."),
        (not product["active"], "is of an archived product: activate that at Stripe first."),
        (not recurring, "is paid once: a plan's fee recurs."),
        (
            recurring
            and (recurring["interval"] not in {"month", "year"} or recurring["interval_count"] != 1),
            "is not charged monthly or yearly.",
        ),
        (recurring and recurring["usage_type"] != "licensed", "is charged by usage: a plan's fee is flat."),
        (price["billing_scheme"] != "per_unit", "has tiers: a plan's fee is flat."),
        (price["transform_quantity"], "is charged for packages of units: a plan's fee is flat."),
        (price["custom_unit_amount"], "lets customers choose the amount: a plan's fee is fixed."),
        (
            amount is not None and Decimal(str(amount)) % 1,
            "has fractions of the currency's smallest unit: Tollgate's fees are whole.",
        ),
        (owner not in {None, plan}, f"is a price of {owner}."),
    ]
    return next((f"The price {price['id']} {reason}" for is_so, reason in reasons if is_so), "")


def find_owner(price_id: str) -> Plan | None:
    published = PublishedPrice.objects.filter(stripe_price_id=price_id).select_related("plan").first()
    current = PlanPrice.objects.filter(stripe_price_id=price_id).select_related("plan").first()
    found = published or current
    return found.plan if found else None


@transaction.atomic
def adopt(plan: Plan, price: Data, product: Data) -> AdoptPrice:
    """Make `price` the plan's fee in its interval and currency; return what that changes.

    Both are in the mirror already. Raises AdoptionRefused where the price cannot be a plan's fee.
    """
    hindrance = find_hindrance(price, product, plan)
    if hindrance:
        raise AdoptionRefused(hindrance)
    terms = read_terms(price, meters={})
    if terms is None:
        raise AdoptionRefused(f"The price {price['id']} is not one that a plan could have.")
    row = row_for(plan, terms)
    was, old = row.terms() if row.pk else None, row.stripe_price_id
    take_over(row, price, terms)
    plan.stripe_product_id = product["id"]
    plan.save(update_fields=["stripe_product"])
    plan.arrange_metered_prices()
    sentence = (
        f"Adopt {price['id']} of the product “{product['name']}”, {describe(terms)}, as the fee of {plan}"
    )
    if was and was != terms:
        sentence += f", in the place of {describe(was)}"
    count = count_subscribers([old])[old] if old and old != price["id"] else 0
    if count:
        sentence += f"; {count} subscriber{'s stay' if count > 1 else ' stays'} on the price that it had"
    return AdoptPrice(sentence=f"{sentence}.", plan=plan.slug, price_id=price["id"], terms=terms)


def row_for(plan: Plan, terms: Terms) -> PlanPrice:
    """Return the plan's fee that the price takes the place of.

    That of its interval and currency. Where there is none, a plan's only fee that was never at Stripe: it is
    what a new installation was seeded with. Else a new one.
    """
    fees = plan.prices.filter(meter=None)
    alike = fees.filter(interval=terms["interval"], currency=terms["currency"]).first()
    if alike:
        return alike
    only = fees.first() if fees.count() == 1 else None
    return only if only and not only.published_terms else PlanPrice(plan=plan)


def take_over(row: PlanPrice, price: Data, terms: Terms) -> None:
    key = price["lookup_key"]
    holder = PlanPrice.objects.filter(lookup_key=key).exclude(pk=row.pk).first() if key else None
    if holder:
        raise AdoptionRefused(f"Its lookup key, {key}, is that of another price of {holder.plan}.")
    is_renamed = (row.currency, row.interval) != (terms["currency"], terms["interval"])
    row.currency, row.interval, row.unit_amount = terms["currency"], terms["interval"], terms["unit_amount"]
    if key or is_renamed:
        # What else finds the price by a key of its own goes on finding it.
        row.lookup_key = key or row.own_lookup_key()
    row.plan.published_prices.filter(stripe_price_id=row.stripe_price_id).update(retired_at=clock.now())
    row.stripe_price_id, row.published_terms = price["id"], terms
    row.save()
    PublishedPrice.objects.update_or_create(
        stripe_price_id=price["id"],
        defaults={"terms": terms, "product_id": price["product"], "retired_at": None},
        create_defaults={
            "plan": row.plan,
            "terms": terms,
            "product_id": price["product"],
            "is_adopted": True,
        },
    )
