"""Take back a second subscription that was never paid for."""

from djstripe import models as djstripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.locks import customer_lock
from billing.stripe.client import translated_errors
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.unfinished import clear_unpaid
from billing.subscriptions import plan_subscriptions


def cancel_never_paid(organization: Organization) -> None:
    """End the subscriptions whose first payment never came, where another one is in force.

    Decided by Stripe's own state under the customer's lock, so repeating it does nothing; what was paid a moment ago
    stays. Raises StripeUnavailable or StripeRejected.
    """
    customers = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)
    ids = list(customers.order_by("djstripe_id").values_list("id", flat=True))
    for customer_id in ids:
        sync_subscriptions(customer_id)
    if any(each.is_live and each.has_begun for each in plan_subscriptions(organization)):
        for customer_id in ids:
            with translated_errors(), customer_lock(customer_id):
                clear_unpaid(
                    organization,
                    customer_id,
                    but=lambda each, mine=customer_id: each.data["customer"] != mine,  # type: ignore[misc]
                )
    refresh_entitlement(organization)
