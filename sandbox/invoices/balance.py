"""The customer's balance: below zero it is credit for invoices to come, above zero it is owed on the next."""

from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object

DEFAULT_CURRENCY = "usd"


def change_balance(
    state: Sandbox,
    customer: Object,
    *,
    amount: int,
    type: str,
    currency: str | None = None,
    invoice: Object | str | None = None,
    credit_note: Object | str | None = None,
    description: str | None = None,
    tell: bool = True,
) -> Object:
    """Add `amount` minor units to a customer's balance, and store and return the transaction of it.

    A negative amount gives credit. `type` is Stripe's: adjustment, applied_to_invoice, unapplied_from_invoice,
    credit_note, initial, invoice_too_small, … The currency is the customer's, which is settled by the first
    transaction where it is open. `customer` is changed in place and stored, and customer.updated told unless
    `tell` is False, for a caller that changes more and tells of all of it. Raises ApiError where the currency
    is another than the customer's.
    """
    currency = (currency or customer["currency"] or DEFAULT_CURRENCY).lower()
    if customer["currency"] is not None and customer["currency"] != currency:
        raise ApiError(
            f"The customer's balance is held in {customer['currency']}: a transaction in {currency} "
            "cannot be added to it.",
            param="currency",
        )
    before = state.render(customer)
    customer["currency"] = currency
    customer["balance"] += amount
    transaction = state.put(
        state.new(
            "customer_balance_transaction",
            amount=amount,
            checkout_session=None,
            credit_note=_id_of(credit_note),
            currency=currency,
            customer=customer["id"],
            customer_account=None,
            description=description,
            ending_balance=customer["balance"],
            invoice=_id_of(invoice),
            metadata={},
            type=type,
        )
    )
    if tell:
        state.update(customer, before=before, event="customer.updated")
    else:
        state.put(customer)
    return transaction


def _id_of(obj: Object | str | None) -> str | None:
    return obj["id"] if isinstance(obj, dict) else obj
