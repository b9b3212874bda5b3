"""What tests of the portal share: a configuration that allows everything, and the way in."""

from typing import Any

import stripe

from tests.sandbox.helpers import Shop

EVERYTHING: dict[str, Any] = {
    "customer_update": {
        "enabled": True,
        "allowed_updates": ["name", "email", "address", "phone", "tax_id"],
    },
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {
        "enabled": True,
        "cancellation_reason": {"enabled": True, "options": ["too_expensive", "other"]},
    },
}


def configure(shop: Shop, **features: Any) -> Any:
    return shop.api.billing_portal.configurations.create({"features": {**EVERYTHING, **features}})


def switching(*prices: stripe.Price, **rules: Any) -> dict[str, Any]:
    """Return the feature that lets customers switch between prices of different products."""
    return {
        "enabled": True,
        "default_allowed_updates": ["price"],
        "proration_behavior": "always_invoice",
        "products": [{"product": each.product, "prices": [each.id]} for each in prices],
        **rules,
    }


def visit(shop: Shop, customer: stripe.Customer, configuration: Any, **params: Any) -> str:
    """Return the address of a portal session."""
    session = shop.api.billing_portal.sessions.create(
        {
            "customer": customer.id,
            "configuration": configuration.id,
            "return_url": "http://127.0.0.1/dashboard",
            **params,
        }
    )
    return str(session.url)


def team(shop: Shop, amount: int = 9900, **params: Any) -> stripe.Price:
    return shop.price(amount, product=shop.api.products.create({"name": "Team"}).id, **params)
