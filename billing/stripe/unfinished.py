"""What was begun and not paid: Checkout pages that are open, and subscriptions that wait for their first payment.

Either can be paid at any moment, without us. So before anything new is begun it is taken back at Stripe in
a way that fails where the payment came first, and only then Stripe is asked what there is. Call all of
this under the customer's lock.
"""

from collections.abc import Callable

import stripe

from accounts.models import Organization
from billing.stripe.client import get_client, metadata_of
from billing.stripe.subscriptions import cancel_subscription, sync_subscriptions
from billing.subscriptions import PlanSubscription, find_live_subscription, plan_subscriptions

ATTEMPT_KEY = "tollgate_attempt"


def close_pages(customer_id: str, *, but: str = "") -> stripe.checkout.Session | None:
    """Expire the customer's open Checkout pages; return the one of the attempt named by `but`, which stays."""
    kept = None
    listed = get_client().v1.checkout.sessions.list({"customer": customer_id, "status": "open", "limit": 100})
    for session in listed.auto_paging_iter():
        if but and kept is None and metadata_of(session).get(ATTEMPT_KEY) == but:
            kept = session
        else:
            close_page(session)
    return kept


def close_page(session: stripe.checkout.Session) -> None:
    """Expire a page, so that nobody can pay on it. One that has been paid meanwhile is left as it is."""
    sessions = get_client().v1.checkout.sessions
    try:
        sessions.expire(session.id)
    except stripe.InvalidRequestError:
        if sessions.retrieve(session.id).status == "open":
            raise


def clear_unpaid(
    organization: Organization,
    customer_id: str,
    *,
    but: Callable[[PlanSubscription], bool] = lambda subscription: False,
) -> PlanSubscription | None:
    """Give up the subscriptions that wait for their first payment, except those that `but` picks.

    Returns the live subscription that is left, from a state fetched after that, or None.
    """
    sync_subscriptions(customer_id)
    unpaid = [s for s in plan_subscriptions(organization) if s.status == "incomplete" and not but(s)]
    for subscription in unpaid:
        give_up(subscription)
    if unpaid:
        sync_subscriptions(customer_id)
    return find_live_subscription(organization)


def give_up(subscription: PlanSubscription) -> None:
    """End a subscription whose first payment has not come; leave it where it has come meanwhile."""
    api = get_client().v1
    invoice_id = subscription.data.get("latest_invoice")
    if invoice_id:
        # Cancelling would end a subscription that was paid a moment ago. A paid invoice cannot be voided.
        try:
            api.invoices.void_invoice(invoice_id)
        except stripe.InvalidRequestError:
            if api.invoices.retrieve(invoice_id).status == "paid":
                return
    # Where voiding its first invoice ended it, there is nothing left to do.
    cancel_subscription(subscription.id)
