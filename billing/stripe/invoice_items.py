"""Amounts for a customer's next invoice, and the lines of one that has many."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.errors import StripeRejected
from billing.locks import customer_lock
from billing.stripe.client import get_client, metadata_of, translated_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Whose an invoice item is and the invoice that took it up, in Stripe's words; all but the first empty before."""

    customer_id: str
    invoice_id: str = ""
    status: str = ""
    billing_reason: str = ""


def ensure_invoice_item(
    *,
    customer_id: str,
    key: str,
    metadata: Mapping[str, str],
    amount: int,
    currency: str,
    description: str,
    start: datetime,
    end: datetime,
    is_net: bool = False,
) -> str:
    """Put an amount on the customer's next invoice, once however often this is called; return the item's id.

    `amount` is in minor units, below 0 for a credit; `start` and `end` are what the invoice says that it is for.
    Of one that `is_net` no discount of the invoice is taken off.
    Under the customer's lock an item with the same `metadata` is looked for before one is made: that is certain
    for good, while the idempotency key made of `key` is for what Stripe has in hand at this moment.
    Raises StripeUnavailable (it may or may not be there: call again) or StripeRejected.
    """
    with translated_errors(), customer_lock(customer_id):
        found = find_invoice_item(customer_id, metadata=metadata, since=None)
        if found is not None:
            return found
        created = get_client().v1.invoice_items.create(
            {
                "customer": customer_id,
                "amount": amount,
                "currency": currency,
                "description": description,
                "metadata": dict(metadata),
                "period": {"start": int(start.timestamp()), "end": int(end.timestamp())},
                **({"discountable": False} if is_net else {}),
            },
            {"idempotency_key": key},
        )
        return str(created.id)


def find_invoice_item(customer_id: str, *, metadata: Mapping[str, str], since: datetime | None) -> str | None:
    """Return the id of the customer's item with this metadata, None where there is none."""
    params: Any = {"customer": customer_id, "limit": 100}
    if since:
        params["created"] = {"gte": int(since.timestamp())}
    with translated_errors():
        for item in get_client().v1.invoice_items.list(params).auto_paging_iter():
            if metadata.items() <= metadata_of(item).items():
                return str(item.id)
    return None


def find_placed(item_id: str, *, customer_id: str) -> Placed | None:
    """Return where an item of the customer's is by now, None where it was deleted.

    Raises StripeUnavailable, and StripeRejected where Stripe does not know the customer either, or nobody does: then
    the key is most likely of another account, and nothing was deleted.
    """
    api = get_client().v1
    try:
        with translated_errors():
            item = api.invoice_items.retrieve(item_id)
    except StripeRejected as error:
        if error.code != "resource_missing" or not customer_id:
            raise
        with translated_errors():
            api.customers.retrieve(customer_id)
        return None
    owner = str(item.customer if isinstance(item.customer, str) else item.customer.id)
    if not item.invoice:
        return Placed(customer_id=owner)
    with translated_errors():
        invoice = api.invoices.retrieve(
            item.invoice if isinstance(item.invoice, str) else str(item.invoice.id)
        )
    return Placed(
        customer_id=owner,
        invoice_id=str(invoice.id),
        status=str(invoice.status),
        billing_reason=str(invoice.billing_reason),
    )


def all_lines(invoice_id: str) -> list[dict[str, Any]]:
    """Return every line of an invoice, of which the mirror has the first ones. Raises StripeUnavailable."""
    with translated_errors():
        listed = get_client().v1.invoices.line_items.list(invoice_id, {"limit": 100})
        return [line.to_dict() for line in listed.auto_paging_iter()]
