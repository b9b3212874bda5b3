"""A catalogue at Stripe in tests of billing: changing and looking at prices, ours and those of before Tollgate."""

from contextlib import AbstractContextManager
from datetime import timedelta
from decimal import Decimal
from typing import Any

from accounts import clock
from accounts.models import Organization
from billing.models import Plan, PlanPrice, PlanQuota
from billing.stripe.catalog import preview_publication, publish
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from sandbox.state import Sandbox


def fee_of(plan: Plan) -> PlanPrice:
    return plan.prices.get(meter=None, interval="month", currency="usd")


def overage_of(plan: Plan) -> PlanPrice:
    return plan.prices.get(meter__slug="requests", currency="usd")


def set_fee(plan: Plan, amount: int) -> PlanPrice:
    price = fee_of(plan)
    price.unit_amount = amount
    price.save()
    return price


def bill_overage(plan: Plan, *tiers: tuple[int | None, str]) -> PlanPrice:
    plan.quotas.update(overage=PlanQuota.Overage.BILL)
    price = overage_of(plan)
    price.set_tiers((up_to, Decimal(amount)) for up_to, amount in tiers)
    return price


def sentences(*plans: Plan) -> list[str]:
    return [change.sentence for change in preview_publication(plans).changes]


def at_stripe(sandbox: Sandbox, key: str) -> dict[str, Any]:
    """Return the price that has a lookup key."""
    (found,) = [price for price in sandbox.every("price") if price["lookup_key"] == key]
    return found


def writes(sandbox: Sandbox) -> int:
    """Return how many requests have changed something."""
    return sum(request.method != "GET" for request in sandbox.requests)


def everything(sandbox: Sandbox) -> list[list[dict[str, Any]]]:
    """Return all meters, products and prices."""
    return [list(sandbox.every(kind)) for kind in ("billing.meter", "product", "price")]


def later(**passing: float) -> AbstractContextManager[Any]:
    """The process's own clock, so long after now."""
    return clock.standing_at(clock.now() + timedelta(**passing))


def make_price(**params: Any) -> str:
    """Make a price as an operator had it: a product of its own name, $25 a month; return its id."""
    client = get_client().v1
    product = params.pop("product", None) or client.products.create({"name": "API access"}).id
    monthly = {"currency": "usd", "unit_amount": 2500, "recurring": {"interval": "month"}}
    kept = {name: value for name, value in (monthly | params).items() if value is not None}
    return client.prices.create({"product": product, **kept}).id


def subscribe_at_stripe(organization: Organization, *price_ids: str, **params: Any) -> str:
    """Subscribe an organization to prices directly, and copy that into the mirror; return the subscription's id."""
    client = get_client().v1
    customer = ensure_customer(organization).id
    method = client.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    items = [{"price": price_id} for price_id in price_ids]
    created = client.subscriptions.create(
        {"customer": customer, "items": items, "default_payment_method": method, **params}
    )
    sync_subscriptions(customer)
    return created.id


def raise_fee(plan: Plan, amount: int = 3900) -> None:
    set_fee(plan, amount)
    publish([plan])
