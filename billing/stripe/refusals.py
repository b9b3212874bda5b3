"""Why Stripe will not sell something to a customer, in words that help the customer."""

import stripe

from billing.errors import BillingError, ChangeRefused
from billing.stripe.client import get_client


def explain_refusal(
    error: stripe.InvalidRequestError, *, customer_id: str, currency: str
) -> BillingError | None:
    """Return what to tell the customer of a sale that Stripe refused, None where it is nothing of theirs."""
    if error.code == "customer_tax_location_invalid":
        return ChangeRefused(
            "The taxes depend on where you are: add your billing address first.", code="address_required"
        )
    # Not told by its words. A customer pays in one currency, that of the first invoice.
    known = get_client().v1.customers.retrieve(customer_id)["currency"]
    if known and known != currency:
        return ChangeRefused(
            f"You pay in {known.upper()}, so this cannot be bought in {currency.upper()}.",
            code="currency_fixed",
        )
    return None
