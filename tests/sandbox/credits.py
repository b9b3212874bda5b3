"""What tests of credit notes share: invoices to credit, a tax, and refusals."""

from typing import Any

import pytest
import stripe

from tests.sandbox.helpers import Shop


def bill(shop: Shop, *amounts: int, pay: bool = False, card: str = "pm_card_visa", **params: Any) -> Any:
    """Return a finalized invoice with a line of each amount, in US cents."""
    customer = shop.payer(card)
    invoice = shop.api.invoices.create(
        {"customer": customer.id, "collection_method": "send_invoice", "days_until_due": 30, **params}
    )
    for amount in amounts:
        shop.api.invoice_items.create(
            {"customer": customer.id, "invoice": invoice.id, "amount": amount, "currency": "usd"}
        )
    invoice = shop.api.invoices.finalize_invoice(invoice.id)
    if pay:
        card_id = customer.invoice_settings.default_payment_method
        invoice = shop.api.invoices.pay(invoice.id, {"payment_method": card_id})
    return invoice


def vat(shop: Shop, percentage: float = 20, *, inclusive: bool = False) -> stripe.TaxRate:
    return shop.api.tax_rates.create(
        {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive}
    )


def credit(shop: Shop, invoice: Any, **params: Any) -> Any:
    return shop.api.credit_notes.create({"invoice": invoice.id, **params})


def refused(call: Any, *args: Any, **params: Any) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call(*args, **params)
    assert caught.value.http_status == 400
    return caught.value


def fresh(shop: Shop, invoice: Any) -> Any:
    return shop.api.invoices.retrieve(invoice.id)
