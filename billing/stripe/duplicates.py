"""Take back a second subscription that was never paid for."""

from djstripe import models as djstripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import StripeRejected
from billing.locks import customer_lock
from billing.stripe.client import get_client, translated_errors
from billing.stripe.subscriptions import sync_subscriptions
from billing.subscriptions import plan_subscriptions


def cancel_never_paid(organization: Organization) -> list[str]:
    """Cancel the subscriptions whose first payment never came, where another one is in force; return their ids.

    What is still to be done is decided by Stripe's own state, under the customer's lock: repeating it does nothing.
    Raises StripeUnavailable, or StripeRejected where a payment is on its way at this moment.
    """
    customers = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)
    ids = list(customers.order_by("djstripe_id").values_list("id", flat=True))
    for customer_id in ids:
        sync_subscriptions(customer_id)
    cancelled: list[str] = []
    refused: StripeRejected | None = None
    for customer_id in ids:
        with customer_lock(customer_id):
            sync_subscriptions(customer_id)
            for subscription_id in never_paid(organization, customer_id):
                try:
                    give_up(subscription_id)
                except StripeRejected as error:
                    refused = error
                else:
                    cancelled.append(subscription_id)
            sync_subscriptions(customer_id)
    refresh_entitlement(organization)
    if refused:
        raise refused
    return cancelled


def never_paid(organization: Organization, customer_id: str) -> list[str]:
    live = [each for each in plan_subscriptions(organization) if each.is_live]
    if not any(each.has_begun for each in live):
        return []
    return [each.id for each in live if not each.has_begun and each.data["customer"] == customer_id]


def give_up(subscription_id: str) -> None:
    with translated_errors():
        subscriptions, invoices = get_client().v1.subscriptions, get_client().v1.invoices
        found = subscriptions.retrieve(subscription_id, {"expand": ["latest_invoice"]})
        invoice = found.latest_invoice
        # First, so that nobody can pay it any more; Stripe refuses this while a payment is on its way.
        if invoice is not None and not isinstance(invoice, str) and invoice.status == "open":
            djstripe.Invoice.sync_from_stripe_data(
                invoices.void_invoice(invoice.id, {"expand": ["discounts"]})
            )
            found = subscriptions.retrieve(subscription_id)
        if found.status == "incomplete":
            subscriptions.cancel(subscription_id)
