"""What goes wrong out there, brought about by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from djstripe import models as djstripe

from accounts.models import Organization
from billing.models import Plan
from billing.stripe.client import get_client
from billing.stripe.customers import find_customer
from sandbox.state import Sandbox


def subscribe_once_more(organization: Organization, *, plan: Plan, **params: Any) -> Any:
    """Make a second subscription beside the first, as Stripe allows and our own flows do not."""
    client, customer = get_client().v1, find_customer(organization)
    assert customer is not None
    price = plan.prices.get(meter=None, interval="month", currency="usd")
    items: Any = [{"price": price.stripe_price_id}]
    created = client.subscriptions.create(
        {"customer": customer.id, "items": items, **(params or paying(customer.id))}
    )
    djstripe.Subscription.sync_from_stripe_data(created)
    return created


def paying(customer_id: str) -> dict[str, Any]:
    method = get_client().v1.payment_methods.attach("pm_card_visa", {"customer": customer_id})
    return {"default_payment_method": method.id}


def move(sandbox: Sandbox, hands: Any, by: timedelta) -> None:
    """Let time pass at Stripe and here."""
    sandbox.set_clock(advance=int(by.total_seconds()))
    hands.move(sandbox_time(sandbox))


def sandbox_time(sandbox: Sandbox) -> datetime:
    return datetime.fromtimestamp(sandbox.clock.now(), UTC)


def discount_of(sandbox: Sandbox, coupon_id: str, customer_id: str) -> dict[str, Any]:
    """Return a discount of a customer's own, which the dashboard can give and our flows do not."""
    return {
        "id": sandbox.new_id("discount"),
        "object": "discount",
        "customer": customer_id,
        "source": {"type": "coupon", "coupon": coupon_id},
        "start": sandbox.now(),
        "end": None,
        "checkout_session": None,
        "invoice": None,
        "invoice_item": None,
        "promotion_code": None,
        "subscription": None,
        "subscription_item": None,
        "customer_account": None,
    }
