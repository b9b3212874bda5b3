from typing import Any

import stripe
from djstripe import models as djstripe

from billing.locks import customer_lock
from billing.stripe.client import get_client, translated_errors
from billing.subscriptions import LIVE


def sync_subscriptions(customer_id: str) -> None:
    """Fetch all subscriptions of a customer from Stripe into the mirror, ended ones too."""
    with translated_errors(), customer_lock(customer_id):
        listed = get_client().v1.subscriptions.list({"customer": customer_id, "status": "all", "limit": 100})
        for subscription in listed.auto_paging_iter():
            djstripe.Subscription.sync_from_stripe_data(subscription)
            if subscription["status"] in LIVE:
                ensure_payment_method(subscription)


def ensure_payment_method(subscription: stripe.Subscription) -> None:
    """Have the card that the subscription is paid with in the mirror: dj-stripe leaves it out."""
    method = subscription["default_payment_method"]
    if method and not djstripe.PaymentMethod.objects.filter(id=method).exists():
        djstripe.PaymentMethod.sync_from_stripe_data(get_client().v1.payment_methods.retrieve(method))


def cancel_subscription(subscription_id: str, **params: Any) -> None:
    """End a subscription at Stripe now, by Stripe's parameters; one that has ended is left as it is.

    Stripe refuses to end it twice, and so the client's own retry of a call whose answer was lost: a DELETE
    carries no idempotency key.
    """
    request: Any = params
    try:
        get_client().v1.subscriptions.cancel(subscription_id, request)
    except stripe.InvalidRequestError as error:
        if error.code != "resource_missing":
            raise
