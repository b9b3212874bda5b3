"""A customer's card, put in place of the one before."""

from typing import Any

from accounts.models import Organization
from billing.standing import find_standing
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.billing.buying import settings

FAILS = "pm_card_chargeCustomerFail"
ASKS = "pm_card_authenticationRequired"


def use_card(organization: Organization, card: str) -> None:
    """Charge another card from now on, as the customer would have it on Stripe's page."""
    api, customer = get_client().v1, ensure_customer(organization)
    method = api.payment_methods.attach(card, {"customer": customer.id})
    standing = find_standing(organization)
    assert standing is not None
    default: Any = {"default_payment_method": method.id}
    api.subscriptions.update(standing.subscription_id, default)
    api.customers.update(customer.id, {"invoice_settings": default})


def choose_default_card(organization: Organization, card: str) -> None:
    """Do what Stripe's portal does with a card: attach it and make it the customer's default."""
    api, customer = get_client().v1, ensure_customer(organization)
    method = api.payment_methods.attach(card, {"customer": customer.id})
    api.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})


def set_up_portal() -> None:
    """Have a portal at Stripe for cards, details and invoices."""
    features: Any = {
        "payment_method_update": {"enabled": True},
        "invoice_history": {"enabled": True},
        "customer_update": {"enabled": True, "allowed_updates": ["email", "address", "tax_id"]},
    }
    made = get_client().v1.billing_portal.configurations.create({"features": features})
    settings(portal_configuration_id=made.id)
