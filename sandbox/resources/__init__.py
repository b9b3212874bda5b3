"""Stripe's resources, one file each. Importing this package registers every endpoint."""

from sandbox.resources import (  # noqa: F401  (imported for the endpoints they register)
    account,
    charges,
    checkout_sessions,
    customers,
    events,
    invoice_payments,
    invoices,
    meter_events,
    meters,
    payment_intents,
    payment_methods,
    prices,
    products,
    subscription_items,
    subscriptions,
    webhook_endpoints,
)
from sandbox.routing import ENDPOINTS

__all__ = ["ENDPOINTS"]
