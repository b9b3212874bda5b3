"""Which card is charged: the customer's default at Stripe, which is what the portal changes."""

from typing import Any

from djstripe import models as djstripe

from accounts.models import Organization
from billing.locks import customer_lock
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import find_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.subscriptions import find_live_subscription


def charge_default_card(organization: Organization, customer_id: str) -> None:
    """Let the live subscription be charged to the customer's default card, and make that the card it has now.

    Checkout gives a subscription a card of its own, which goes before the customer's default; the portal
    changes the default alone (https://docs.stripe.com/customer-management/portal-deep-links). So a card that
    is changed there would never be charged. Changes nothing where the subscription has none of its own.
    Raises StripeUnavailable or StripeRejected.
    """
    with translated_errors(), customer_lock(customer_id):
        sync_subscriptions(customer_id)
        subscription = find_live_subscription(organization)
        own = subscription.data["default_payment_method"] if subscription else None
        if subscription is None or not own:
            return
        api = get_client().v1
        # In this order: where the second call fails, the same card is charged as before.
        customer = api.customers.update(customer_id, {"invoice_settings": {"default_payment_method": own}})
        djstripe.Customer.sync_from_stripe_data(customer)
        none: Any = {"default_payment_method": ""}
        djstripe.Subscription.sync_from_stripe_data(api.subscriptions.update(subscription.id, none))


def sync_default_card(organization: Organization) -> None:
    """Copy which card is the customer's default, without waiting for the webhook.

    Raises StripeUnavailable or StripeRejected.
    """
    known = find_customer(organization)
    if known is None:
        return
    with translated_errors(), customer_lock(known.id):
        api = get_client().v1
        customer = api.customers.retrieve(known.id)
        djstripe.Customer.sync_from_stripe_data(customer)
        settings: Any = customer["invoice_settings"] or {}
        if settings.get("default_payment_method"):
            method = api.payment_methods.retrieve(settings["default_payment_method"])
            djstripe.PaymentMethod.sync_from_stripe_data(method)
        sync_subscriptions(known.id)
