"""Stripe's customer portal: card, address, tax id and invoices, on Stripe's pages."""

import logging
from typing import Any

from accounts.models import Organization
from billing.errors import NotPublished, StripeRejected
from billing.models import BillingSettings
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import ensure_customer
from billing.stripe.payment_methods import charge_default_card

logger = logging.getLogger(__name__)

FLOWS = frozenset({"payment_method_update"})


def open_portal(organization: Organization, *, return_url: str, flow: str | None = None) -> str:
    """Return the address of a portal visit, good for a few minutes and for this organization alone.

    With the flow `payment_method_update` it asks for a card at once and comes back to `return_url`. A card
    that is chosen on either is what the subscription is charged to from then on.
    Raises ValueError for another flow, NotPublished where the portal was never set up at Stripe,
    StripeUnavailable or StripeRejected.
    """
    if flow is not None and flow not in FLOWS:
        raise ValueError(f"There is no portal flow {flow!r}: use one of {', '.join(sorted(FLOWS))}.")
    customer = ensure_customer(organization)
    charge_default_card(organization, customer.id)
    configuration = BillingSettings.load().portal_configuration_id
    params: Any = {"customer": customer.id, "return_url": return_url}
    if configuration:
        params["configuration"] = configuration
    if flow:
        back = {"type": "redirect", "redirect": {"return_url": return_url}}
        params["flow_data"] = {"type": flow, "after_completion": back}
    try:
        with translated_errors():
            session = get_client().v1.billing_portal.sessions.create(params)
    except StripeRejected as error:
        # Either ours is gone or switched off, or there is none and Stripe has no default to go by.
        if error.param == "configuration" or "configuration" in str(error):
            logger.error("Stripe's customer portal is not set up: run manage.py stripe_setup (%s)", error)
            raise NotPublished("The billing portal is not set up yet. Please contact us.") from error
        raise
    return session.url
