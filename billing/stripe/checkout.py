from typing import Any

from accounts.models import Organization
from billing.errors import AlreadySubscribed, NotPublished
from billing.locks import customer_lock
from billing.models import Plan, PlanPrice
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.customers import METADATA_KEY, ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.subscriptions import find_live_subscription


def start_checkout(
    organization: Organization, *, plan: Plan, attempt: str, success_url: str, cancel_url: str
) -> str:
    """Return the address of a hosted Checkout page that subscribes the organization to `plan`.

    `attempt` names this try: repeating it gives the same page back. Raises AlreadySubscribed, NotPublished,
    StripeUnavailable or StripeRejected.

    Nobody can pay twice: under the customer's lock all other pages are closed first, then Stripe is asked
    whether one of them has been paid, and only then a new one is opened.
    """
    prices = plan.offered_prices()
    if not prices or not all(price.is_published for price in prices):
        raise NotPublished(f"{plan.name} cannot be bought right now: its price is not published at Stripe.")
    customer = ensure_customer(organization)
    with translated_errors(), customer_lock(customer.id):
        opened = close_other_pages(customer.id, attempt=attempt)
        sync_subscriptions(customer.id)
        url = None
        if not find_live_subscription(organization):
            url = opened or open_page(
                organization,
                customer.id,
                prices,
                attempt=attempt,
                success_url=success_url,
                cancel_url=cancel_url,
            )
    # Raised outside the transaction, which would take back with it what was just learnt from Stripe.
    if not url:
        raise AlreadySubscribed(f"{organization} has a subscription already.")
    return url


def close_other_pages(customer_id: str, *, attempt: str) -> str | None:
    """Expire the customer's open Checkout pages; return the address of the one of this attempt, which stays."""
    sessions = get_client().v1.checkout.sessions
    url = None
    listed = sessions.list({"customer": customer_id, "status": "open", "limit": 100})
    for session in listed.auto_paging_iter():
        if metadata_of(session).get("tollgate_attempt") == attempt:
            url = session.url
        else:
            sessions.expire(session.id)
    return url


def open_page(
    organization: Organization,
    customer_id: str,
    prices: list[PlanPrice],
    *,
    attempt: str,
    success_url: str,
    cancel_url: str,
) -> str | None:
    # A metered line takes no quantity: its usage is reported, not ordered.
    lines: Any = [
        {"price": price.stripe_price_id} | ({} if price.meter_id else {"quantity": 1}) for price in prices
    ]
    plan = prices[0].plan.slug
    created = get_client().v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": str(organization.pk),
            "line_items": lines,
            "subscription_data": {"metadata": {METADATA_KEY: str(organization.pk), "tollgate_plan": plan}},
            "metadata": {"tollgate_attempt": attempt},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
    )
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
    return session.status == "complete" and session.payment_status != "unpaid"
