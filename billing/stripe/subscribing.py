"""Subscribing over the API: the customer's own page takes the payment, with a client secret."""

from dataclasses import dataclass
from typing import Any, Literal

import stripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import AlreadySubscribed, ChangeRefused
from billing.locks import customer_lock
from billing.models import BillingSettings, Plan, Trial
from billing.offers import Offer, get_offer
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import METADATA_KEY, ensure_customer
from billing.stripe.refusals import explain_refusal
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.trials import check_trial
from billing.stripe.unfinished import clear_unpaid, close_pages
from billing.trials import METADATA_KEY as TRIAL_KEY
from billing.trials import settle_trials, trial_days_for

EXPAND: Any = ["latest_invoice.confirmation_secret", "pending_setup_intent"]


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription that its customer has to confirm.

    `intent` says what the client secret is of: a payment to make, or, in a trial, a setup of the card.
    Where there is nothing to confirm it is empty, and `client_secret` is None.
    """

    subscription_id: str
    status: str
    client_secret: str | None
    intent: Literal["payment", "setup", ""]


def create_subscription(
    organization: Organization, *, plan: Plan, interval: str = "month", currency: str = "usd"
) -> NewSubscription:
    """Subscribe the organization to `plan`; nothing is charged before its customer confirms.

    Repeating it gives the same subscription back while that waits to be confirmed; one for another plan or
    price that nobody paid is given up for it, and so are open Checkout pages. Raises AlreadySubscribed,
    NotPublished, ChangeRefused (currency_fixed, address_required, trial_used), StripeUnavailable or
    StripeRejected.
    """
    offer = get_offer(plan, interval=interval, currency=currency)
    customer = ensure_customer(organization)
    settings = BillingSettings.load()
    found, refusal = None, None
    with translated_errors(), customer_lock(customer.id):
        close_pages(customer.id)
        live = clear_unpaid(organization, customer.id, but=offer.is_of)
        if live is None:
            try:
                found = begin(organization, customer.id, offer, settings)
                # Fetched once more for the mirror, which takes no client secret.
                sync_subscriptions(customer.id)
            except stripe.InvalidRequestError as error:
                refusal = explain_refusal(error, customer_id=customer.id, currency=currency)
                if refusal is None:
                    raise
        elif waits(live.data) and offer.is_of(live):
            fetched = get_client().v1.subscriptions.retrieve(live.id, {"expand": EXPAND})
            if waits(fetched):
                found = fetched
            else:
                sync_subscriptions(customer.id)
    refused = settle(organization, found)
    refresh_entitlement(organization)
    # Raised outside the transaction, which would take back with it what was just learnt from Stripe.
    if refusal:
        raise refusal
    if refused:
        raise ChangeRefused(refused.refusal, code="trial_used")
    if found is None:
        raise AlreadySubscribed(f"{organization} has a subscription already.")
    return to_confirm(found)


def begin(
    organization: Organization, customer_id: str, offer: Offer, settings: BillingSettings
) -> stripe.Subscription:
    metadata = {METADATA_KEY: str(organization.pk), "tollgate_plan": offer.plan.slug}
    params: dict[str, Any] = {
        "customer": customer_id,
        "items": offer.items,
        "billing_mode": {"type": "flexible"},
        # Also with a card from before: its holder is to see what it is charged.
        "payment_behavior": "default_incomplete",
        "payment_settings": {"save_default_payment_method": "on_subscription"},
        "metadata": metadata,
        "expand": EXPAND,
    }
    trial_days = trial_days_for(organization, offer.plan)
    if trial_days:
        params["trial_period_days"] = trial_days
        params["trial_settings"] = {"end_behavior": {"missing_payment_method": "cancel"}}
        metadata[TRIAL_KEY] = str(trial_days)
    if settings.automatic_tax:
        params["automatic_tax"] = {"enabled": True}
    request: Any = params
    return get_client().v1.subscriptions.create(request)


def waits(subscription: Any) -> bool:
    """Whether Stripe's subscription waits for a confirmation by its customer."""
    return subscription["status"] == "incomplete" or bool(subscription["pending_setup_intent"])


def settle(organization: Organization, found: stripe.Subscription | None) -> Trial | None:
    """Claim a trial that has begun; return it where it was a second one, and has been ended."""
    for trial in settle_trials(organization):
        if trial.outcome == Trial.Outcome.REFUSED:
            ended = check_trial(trial)
            if found is not None and ended.subscription_id == found.id:
                return ended
    return None


def to_confirm(data: stripe.Subscription) -> NewSubscription:
    setup: Any = data["pending_setup_intent"]
    if setup:
        return NewSubscription(data.id, data.status, setup["client_secret"], "setup")
    invoice: Any = data["latest_invoice"]
    secret = invoice["confirmation_secret"] if invoice and data.status == "incomplete" else None
    if secret:
        return NewSubscription(data.id, data.status, secret["client_secret"], "payment")
    return NewSubscription(data.id, data.status, None, "")
