"""What is done in Stripe's own dashboard in the demo: cards and discounts."""

from typing import Any

from accounts.models import Organization
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import ensure_customer
from billing.subscriptions import find_live_subscription


def replace_card(organization: Organization, *, card: str, pay_now: bool = False) -> None:
    """Put one of Stripe's test cards in the place of the customer's; with `pay_now` what is open is paid with it."""
    customer = ensure_customer(organization).id
    client = get_client().v1
    with translated_errors():
        method = client.payment_methods.attach(card, {"customer": customer})
        client.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})
        subscription = find_live_subscription(organization)
        if subscription:
            client.subscriptions.update(subscription.data["id"], {"default_payment_method": method.id})
        if pay_now:
            for invoice in client.invoices.list({"customer": customer, "status": "open"}).data:
                client.invoices.pay(invoice.id, {"payment_method": method.id})


def give_discount(organization: Organization, *, code: str) -> None:
    """Take 20 % off the next three months by a promotion code, which is made where there is none yet."""
    client = get_client().v1
    with translated_errors():
        known = client.promotion_codes.list({"code": code, "active": True, "limit": 1}).data
        if known:
            promotion = known[0]
        else:
            coupon = client.coupons.create(
                {"name": "Launch", "percent_off": 20, "duration": "repeating", "duration_in_months": 3}
            )
            promotion = client.promotion_codes.create(
                {"code": code, "promotion": {"type": "coupon", "coupon": coupon.id}}
            )
        client.subscriptions.update(
            _live(organization)["id"], {"discounts": [{"promotion_code": promotion.id}]}
        )


def _live(organization: Organization) -> dict[str, Any]:
    """Return Stripe's data of the live subscription. Raises LookupError where there is none."""
    found = find_live_subscription(organization)
    if found is None:
        raise LookupError(f"{organization} has no live subscription.")
    return found.data
