from typing import Any

from accounts.models import Organization
from billing.entitlements import find_live_subscription
from billing.errors import AlreadySubscribed, NotPublished
from billing.models import Plan
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.customers import METADATA_KEY, ensure_customer
from billing.stripe.subscriptions import sync_subscriptions


def start_checkout(
    organization: Organization, *, plan: Plan, attempt: str, success_url: str, cancel_url: str
) -> str:
    """Return the address of a hosted Checkout page that subscribes the organization to `plan`.

    `attempt` names this try: repeating it gives the same page back. Pages opened earlier are closed, so
    that two tabs cannot pay for two subscriptions. Raises AlreadySubscribed, NotPublished,
    StripeUnavailable or StripeRejected.
    """
    prices = list(plan.prices.filter(interval="month", currency="usd"))
    if not prices or any(price.stripe_price_id is None for price in prices):
        raise NotPublished(f"{plan.name} cannot be bought yet: it is not published at Stripe.")
    customer = ensure_customer(organization)
    # The mirror may lag behind a payment made a moment ago in another tab: ask Stripe itself.
    sync_subscriptions(customer.id)
    if find_live_subscription(organization):
        raise AlreadySubscribed(f"{organization} has a subscription already.")
    with translated_errors():
        sessions = get_client().v1.checkout.sessions
        opened = sessions.list({"customer": customer.id, "status": "open", "limit": 100})
        for session in opened.auto_paging_iter():
            if metadata_of(session).get("tollgate_attempt") != attempt:
                sessions.expire(session.id)
        # A metered line takes no quantity: its usage is reported, not ordered.
        lines: Any = [
            {"price": price.stripe_price_id} | ({} if price.meter_id else {"quantity": 1}) for price in prices
        ]
        created = sessions.create(
            {
                "mode": "subscription",
                "customer": customer.id,
                "client_reference_id": str(organization.pk),
                "line_items": lines,
                "subscription_data": {
                    "metadata": {METADATA_KEY: str(organization.pk), "tollgate_plan": plan.slug}
                },
                "metadata": {"tollgate_attempt": attempt},
                "success_url": success_url,
                "cancel_url": cancel_url,
            },
            {"idempotency_key": f"tollgate-checkout-{organization.pk}-{plan.slug}-{attempt}"},
        )
    if not created.url:
        raise AlreadySubscribed("This checkout is already complete.")
    return created.url


def complete_checkout(organization: Organization, *, session_id: str) -> bool:
    """Copy what a Checkout page led to, without waiting for the webhook. True once it is paid for.

    Raises LookupError where the session is not this organization's, StripeUnavailable or StripeRejected.
    """
    with translated_errors():
        session = get_client().v1.checkout.sessions.retrieve(session_id)
    if session.client_reference_id != str(organization.pk) or not isinstance(session.customer, str):
        raise LookupError(f"No checkout {session_id} of {organization}.")
    sync_subscriptions(session.customer)
    return session.status == "complete"
