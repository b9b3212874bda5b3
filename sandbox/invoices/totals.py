"""What an invoice adds up to: lines, discounts, taxes, and the customer's balance."""

from sandbox.catalog import discounting, taxing
from sandbox.state import Sandbox
from sandbox.store import Object

# Below these Stripe charges no card: the amount waits on the customer's balance. Minor units.
SMALLEST_CHARGE = {"usd": 50, "eur": 50, "gbp": 30, "jpy": 50, "cad": 50, "aud": 50, "chf": 50}
SMALLEST_ELSEWHERE = 1


def add_up(state: Sandbox, invoice: Object) -> None:
    """Work out a draft's discounts, taxes, totals and what will be due. Changes the invoice in place."""
    lines = invoice["lines"]["data"]
    for line in lines:
        line["invoice"] = invoice["id"]
        line["discount_amounts"], line["taxes"] = [], []
    discounting.discount_lines(state, invoice, at=state.now())
    taxing.tax_lines(state, invoice)
    whole = set(invoice["discounts"])
    gross = sum(line["amount"] for line in lines)
    off = sum(each["amount"] for line in lines for each in line["discount_amounts"])
    off_items = sum(
        each["amount"] for line in lines for each in line["discount_amounts"] if each["discount"] not in whole
    )
    added = taxing.added(invoice)
    taxes = sum(each["amount"] for each in invoice["total_taxes"])
    invoice["subtotal"] = gross - off_items
    invoice["total"] = gross - off + added
    invoice["total_excluding_tax"] = invoice["total"] - taxes
    invoice["subtotal_excluding_tax"] = invoice["subtotal"] - (taxes - added)
    customer = state.find("customer", invoice["customer"]) or {}
    invoice["starting_balance"] = customer.get("balance", 0)
    _set_due(invoice, after_balance(invoice)[0])


def after_balance(invoice: Object) -> tuple[int, int]:
    """Return (amount due, balance left), in minor units, once the starting balance has been applied.

    A total below zero becomes credit. An amount too small to charge is put on the balance, to be
    collected with the next invoice.
    """
    owed = invoice["total"] + invoice["starting_balance"]
    if owed <= 0:
        return 0, owed
    if owed < SMALLEST_CHARGE.get(invoice["currency"], SMALLEST_ELSEWHERE):
        return 0, owed
    return owed, 0


def _set_due(invoice: Object, due: int) -> None:
    invoice["amount_due"] = due
    invoice["amount_remaining"] = max(
        due - invoice["amount_paid"] - invoice["pre_payment_credit_notes_amount"], 0
    )
