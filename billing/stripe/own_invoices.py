"""An invoice for what no subscription's invoice will take up."""

from collections.abc import Mapping
from typing import Any

from billing.locks import customer_lock
from billing.models import BillingSettings
from billing.stripe.client import get_client, translated_errors

DAYS_UNTIL_DUE = 14  # Where no card can be charged.


def ensure_invoice(
    *,
    customer_id: str,
    item_id: str,
    key: str,
    metadata: Mapping[str, str],
    currency: str,
    description: str,
) -> str:
    """Have an invoice item on an invoice, once however often this is called; return the invoice's id.

    Where the item waits for an invoice, one is made for it and whatever else of the customer waits in its currency.
    Stripe closes it an hour later and charges the customer's default card; where there is none it sends the invoice.
    A sum below 0 becomes the customer's credit balance, which later invoices use up.
    Under the customer's lock the item is asked for its invoice before one is made: that is certain for good, while
    the idempotency key made of `key` is for what Stripe has in hand at this moment.
    Raises StripeUnavailable (it may or may not be there: call again) or StripeRejected.
    """
    api = get_client().v1
    with translated_errors(), customer_lock(customer_id):
        item = api.invoice_items.retrieve(item_id)
        if item.invoice:
            return id_of(item.invoice)
        params: Any = {
            "customer": customer_id,
            "currency": currency,
            "pending_invoice_items_behavior": "include",
            "auto_advance": True,
            "description": description,
            "metadata": dict(metadata),
            **collection(api.customers.retrieve(customer_id), is_credit=item.amount < 0),
        }
        if BillingSettings.load().automatic_tax:
            params["automatic_tax"] = {"enabled": True}
        # Stripe refuses a key that comes again with other parameters, as after a card was added.
        made = api.invoices.create(
            params, {"idempotency_key": f"{key}-invoice-{params['collection_method']}"}
        )
        return str(made.id)


def collection(customer: Any, *, is_credit: bool) -> dict[str, Any]:
    """Return how an invoice is paid: by the default card, else within some days by whoever gets the mail."""
    settings = customer.invoice_settings
    has_card = bool(settings and settings.default_payment_method) or bool(
        getattr(customer, "default_source", None)
    )
    if has_card or is_credit:
        return {"collection_method": "charge_automatically"}
    return {"collection_method": "send_invoice", "days_until_due": DAYS_UNTIL_DUE}


def id_of(invoice: Any) -> str:
    return str(invoice if isinstance(invoice, str) else invoice.id)
