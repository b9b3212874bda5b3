import hashlib
import json
from dataclasses import dataclass
from typing import Any

import stripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import AlreadySubscribed
from billing.locks import customer_lock
from billing.models import BillingSettings, Plan, Trial
from billing.offers import Offer, get_offer
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.customers import METADATA_KEY, ensure_customer
from billing.stripe.refusals import explain_refusal
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.trials import check_trial
from billing.stripe.unfinished import ATTEMPT_KEY, clear_unpaid, close_page, close_pages
from billing.trials import METADATA_KEY as TRIAL_KEY
from billing.trials import settle_trials, trial_days_for

TERMS_KEY = "tollgate_terms"


def start_checkout(
    organization: Organization,
    *,
    plan: Plan,
    interval: str = "month",
    currency: str = "usd",
    attempt: str,
    success_url: str,
    cancel_url: str,
) -> str:
    """Return the address of a hosted Checkout page that subscribes the organization to `plan`.

    `attempt` names this try: repeating it for the same offer gives the same page back. Raises
    AlreadySubscribed, NotPublished, ChangeRefused (currency_fixed), StripeUnavailable or StripeRejected.

    Nobody can pay twice: under the customer's lock all other pages are closed first, and what was begun
    over the API and not paid is given up; then Stripe is asked whether one of them has been paid, and only
    then a new one is opened.
    """
    offer = get_offer(plan, interval=interval, currency=currency)
    customer = ensure_customer(organization)
    settings = BillingSettings.load()
    url, refusal = None, None
    with translated_errors(), customer_lock(customer.id):
        opened = close_pages(customer.id, but=attempt)
        live = clear_unpaid(organization, customer.id)
        page = page_for(
            organization,
            offer,
            settings,
            trial_days=trial_days_for(organization, plan),
            success_url=success_url,
            cancel_url=cancel_url,
        )
        if opened and (live or metadata_of(opened).get(TERMS_KEY) != terms_of(page)):
            close_page(opened)
            opened = None
            # Until now it could be paid.
            live = live or clear_unpaid(organization, customer.id)
        if live is None:
            try:
                url = opened.url if opened else open_page(page, customer.id, attempt=attempt)
            except stripe.InvalidRequestError as error:
                refusal = explain_refusal(error, customer_id=customer.id, currency=currency)
                if refusal is None:
                    raise
    settle_trials(organization)
    refresh_entitlement(organization)
    # Raised outside the transaction, which would take back with it what was just learnt from Stripe.
    if refusal:
        raise refusal
    if not url:
        raise AlreadySubscribed(f"{organization} has a subscription already.")
    return url


def page_for(
    organization: Organization,
    offer: Offer,
    settings: BillingSettings,
    *,
    trial_days: int | None,
    success_url: str,
    cancel_url: str,
) -> dict[str, Any]:
    """Return what the page offers and asks for, in Stripe's words."""
    metadata = {METADATA_KEY: str(organization.pk), "tollgate_plan": offer.plan.slug}
    subscription: dict[str, Any] = {
        # A yearly fee with a monthly metered line needs it, and Stripe's default depends on the account.
        "billing_mode": {"type": "flexible"},
        "metadata": metadata,
    }
    if trial_days:
        subscription["trial_period_days"] = trial_days
        # Whoever takes the card away again owes nothing.
        subscription["trial_settings"] = {"end_behavior": {"missing_payment_method": "cancel"}}
        metadata[TRIAL_KEY] = str(trial_days)
    page: dict[str, Any] = {
        "mode": "subscription",
        "client_reference_id": str(organization.pk),
        "line_items": offer.items,
        "subscription_data": subscription,
        "payment_method_collection": "always",
        "success_url": success_url,
        "cancel_url": cancel_url,
    }
    if settings.allow_promotion_codes:
        page["allow_promotion_codes"] = True
    if settings.automatic_tax:
        page["automatic_tax"] = {"enabled": True}
        page["billing_address_collection"] = "required"
    if settings.collect_tax_ids:
        page["tax_id_collection"] = {"enabled": True}
    if settings.automatic_tax or settings.collect_tax_ids:
        # Later invoices go by the customer's address and name, not by those of this page.
        page["customer_update"] = {"address": "auto", "name": "auto"}
    return page


def terms_of(page: dict[str, Any]) -> str:
    """Return a digest that is the same for pages that offer the same: plan, prices, trial, taxes and all."""
    return hashlib.sha256(json.dumps(page, sort_keys=True).encode()).hexdigest()


def open_page(page: dict[str, Any], customer_id: str, *, attempt: str) -> str | None:
    marks = {ATTEMPT_KEY: attempt, TERMS_KEY: terms_of(page)}
    params: Any = page | {"customer": customer_id, "metadata": marks}
    return get_client().v1.checkout.sessions.create(params).url


@dataclass(frozen=True, slots=True)
class CheckoutOutcome:
    """What a Checkout page led to. `refusal` is the sentence for a customer whose trial was a second one."""

    is_done: bool
    refusal: str = ""


def complete_checkout(organization: Organization, *, session_id: str) -> bool:
    """Copy what a Checkout page led to, without waiting for the webhook. True once it is paid for, or on trial.

    Raises LookupError where the session is not this organization's, StripeUnavailable or StripeRejected.
    """
    return finish_checkout(organization, session_id=session_id).is_done


def finish_checkout(organization: Organization, *, session_id: str) -> CheckoutOutcome:
    """Do what `complete_checkout` does, and tell of a trial that was refused. Raises the same."""
    with translated_errors():
        session = get_client().v1.checkout.sessions.retrieve(session_id)
    if session.client_reference_id != str(organization.pk) or not isinstance(session.customer, str):
        raise LookupError(f"No checkout {session_id} of {organization}.")
    sync_subscriptions(session.customer)
    for trial in settle_trials(organization):
        check_trial(trial)
    refresh_entitlement(organization)
    refused = organization.trials.filter(
        subscription_id=session.subscription, outcome=Trial.Outcome.REFUSED
    ).first()
    if refused:
        return CheckoutOutcome(is_done=False, refusal=refused.refusal)
    return CheckoutOutcome(is_done=session.status == "complete" and session.payment_status != "unpaid")
