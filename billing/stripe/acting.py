"""How a subscription is acted on: under its customer's lock, from fresh state, keeping what was learnt."""

from collections.abc import Callable
from typing import Any, TypeVar

import stripe
from djstripe import models as djstripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import BillingError, NoSubscription
from billing.locks import customer_lock
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import find_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.subscriptions import PlanSubscription, find_live_subscription

T = TypeVar("T")

# What dj-stripe fetches with an invoice: it cannot store one whose discounts are ids.
INVOICE_EXPANDED: list[str] = list(djstripe.Invoice.expand_fields)


def act(organization: Organization, do: Callable[[str], T]) -> T:
    """Call `do` with the Stripe customer's id while nobody else acts on the customer; return what it returns.

    What it learns from Stripe stays in the mirror even where it raises a BillingError, and the entitlement
    follows before this returns or raises. Raises NoSubscription where Stripe does not know the organization,
    StripeUnavailable or StripeRejected, and what `do` raises.
    """
    customer = find_customer(organization)
    if customer is None:
        raise NoSubscription(f"{organization} has no subscription.")
    failure: BillingError | None = None
    with customer_lock(customer.id):
        try:
            with translated_errors():
                result = do(customer.id)
        except BillingError as error:
            # Raised further down: in here it would take back what was learnt.
            failure = error
    refresh_entitlement(organization)
    if failure is not None:
        raise failure
    return result


def fresh_subscription(organization: Organization, customer_id: str) -> PlanSubscription:
    """Fetch the customer's subscriptions and return the live one. Raises NoSubscription.

    Invoices that the mirror has as open are fetched too: what was paid or given up since is not owed.
    """
    sync_subscriptions(customer_id)
    open_ones = djstripe.Invoice.objects.filter(customer__id=customer_id, stripe_data__status="open")
    for invoice_id in open_ones.values_list("id", flat=True):
        sync_invoice(invoice_id)
    found = find_live_subscription(organization)
    if found is None:
        raise NoSubscription(f"{organization} has no subscription.")
    return found


def sync_subscription(subscription_id: str) -> dict[str, Any]:
    """Fetch one subscription into the mirror and return it."""
    return keep_subscription(get_client().v1.subscriptions.retrieve(subscription_id))


def keep_subscription(data: stripe.Subscription) -> dict[str, Any]:
    """Store in the mirror what Stripe has answered, and return it."""
    djstripe.Subscription.sync_from_stripe_data(data)
    return data.to_dict()


def sync_invoice(invoice_id: str) -> dict[str, Any]:
    """Fetch one invoice into the mirror and return it, its discounts expanded."""
    data = get_client().v1.invoices.retrieve(invoice_id, {"expand": INVOICE_EXPANDED})
    djstripe.Invoice.sync_from_stripe_data(data)
    return data.to_dict()
