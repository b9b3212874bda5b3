"""Credit notes: taking back part of a finalized invoice, before it is paid or after."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.catalog.amounts import money_text
from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.invoices.balance import change_balance
from sandbox.invoices.credit_lines import amount_line, new_lines, notes_of, summed_discounts, summed_taxes
from sandbox.invoices.invoicing import give_up_payment, mark_paid
from sandbox.payments.paying import set_amount
from sandbox.payments.refunding import check_refundable, refund_charge
from sandbox.state import Sandbox
from sandbox.store import Object

CREDITABLE = ("open", "paid", "uncollectible")
SHOWN = 10


@dataclass
class Wanted:
    """What a credit note is asked to be. Amounts are in minor units; one of `amount` and `lines` is given."""

    amount: int | None = None
    lines: list[dict[str, Any]] | None = None
    refund_amount: int = 0
    credit_amount: int = 0
    out_of_band_amount: int | None = None
    refunds: list[dict[str, Any]] = field(default_factory=list)
    memo: str | None = None
    reason: str | None = None
    effective_at: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def draft_note(state: Sandbox, invoice: Object, wanted: Wanted) -> Object:
    """Return the credit note, not stored and with nothing moved yet.

    It first lowers what is left to pay; only what goes beyond that is refunded, credited to the balance or
    given back elsewhere. Raises ApiError (400) for more than the invoice has, or parts that do not add up.
    """
    if invoice["status"] not in CREDITABLE:
        raise ApiError(
            f"Credit notes can only be created for invoices that are open, paid or uncollectible; this invoice "
            f"is {invoice['status']}.",
            param="invoice",
        )
    lines = _lines(state, invoice, wanted)
    note = _note(state, invoice, wanted, lines)
    before = notes_of(state, invoice)
    left = invoice["total"] - sum(each["total"] for each in before)
    _check_total(note, left=left, param="amount" if wanted.lines is None else "lines")
    if wanted.amount is not None and wanted.amount != note["total"]:
        raise ApiError(
            f"The amount ({wanted.amount}) is not the total of the lines ({note['total']}).", param="amount"
        )
    note["pre_payment_amount"] = min(note["total"], invoice["amount_remaining"])
    note["post_payment_amount"] = note["total"] - note["pre_payment_amount"]
    note["type"] = _type(note)
    _check_parts(state, invoice, note, wanted)
    return note


def _lines(state: Sandbox, invoice: Object, wanted: Wanted) -> list[Object]:
    if wanted.lines is not None:
        return new_lines(state, invoice, wanted.lines)
    if wanted.amount is None:
        raise ApiError("You must specify one of these parameters: amount, lines, shipping_cost.")
    if wanted.amount < 1:
        raise ApiError(
            "This value must be greater than or equal to 1.",
            code="parameter_invalid_integer",
            param="amount",
        )
    return [amount_line(state, wanted.amount)]


def _note(state: Sandbox, invoice: Object, wanted: Wanted, lines: list[Object]) -> Object:
    taxes, discounts = summed_taxes(lines), summed_discounts(lines)
    subtotal = sum(each["amount"] for each in lines)
    off = sum(each["amount"] for each in discounts)
    tax = sum(each["amount"] for each in taxes)
    added = sum(each["amount"] for each in taxes if each["tax_behavior"] == "exclusive")
    total = subtotal - off + added
    number = 1 + sum(1 for each in state.every("credit_note") if each["invoice"] == invoice["id"])
    identifier, secret = state.new_id("credit_note"), random_text(40)
    return state.new(
        "credit_note",
        id=identifier,
        amount=total,
        amount_shipping=0,
        currency=invoice["currency"],
        customer=invoice["customer"],
        customer_account=None,
        customer_balance_transaction=None,
        discount_amount=off,
        discount_amounts=discounts,
        effective_at=wanted.effective_at or state.now(),
        invoice=invoice["id"],
        lines={
            "object": "list",
            "data": lines[:SHOWN],
            "has_more": len(lines) > SHOWN,
            "url": f"/v1/credit_notes/{identifier}/lines",
        },
        memo=wanted.memo,
        metadata=wanted.metadata,
        number=f"{invoice['number']}-CN-{number:02d}",
        out_of_band_amount=wanted.out_of_band_amount,
        pdf=f"{state.base_url}/credit_notes/{secret}/pdf",
        post_payment_amount=0,
        pre_payment_amount=0,
        pretax_credit_amounts=[{**each, "type": "discount"} for each in discounts],
        reason=wanted.reason,
        refunds=[],
        shipping_cost=None,
        status="issued",
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal - (tax - added),
        total=total,
        total_excluding_tax=total - tax,
        total_taxes=taxes,
        type="pre_payment",
        voided_at=None,
        _lines=lines,
        _secret=secret,
    )


def _check_total(note: Object, *, left: int, param: str) -> None:
    total, currency = note["total"], note["currency"]
    if total < 1:
        raise ApiError("A credit note must be for more than nothing.", param=param)
    if total > left:
        raise ApiError(
            f"The credit note amount ({money_text(total, currency)}) is greater than what can still be credited "
            f"on the invoice ({money_text(max(left, 0), currency)}).",
            param=param,
        )


def _type(note: Object) -> str:
    if not note["post_payment_amount"]:
        return "pre_payment"
    return "mixed" if note["pre_payment_amount"] else "post_payment"


def _check_parts(state: Sandbox, invoice: Object, note: Object, wanted: Wanted) -> None:
    currency, post = note["currency"], note["post_payment_amount"]
    linked = sum(row["amount_refunded"] for row in _linked(state, invoice, wanted))
    for name, amount in (
        ("refund_amount", wanted.refund_amount),
        ("credit_amount", wanted.credit_amount),
        ("out_of_band_amount", wanted.out_of_band_amount or 0),
    ):
        if amount < 0:
            raise ApiError(
                "This value must be greater than or equal to 0.",
                code="parameter_invalid_integer",
                param=name,
            )
    parts = wanted.refund_amount + linked + wanted.credit_amount + (wanted.out_of_band_amount or 0)
    if parts != post:
        raise ApiError(
            "The sum of credit amount, refund amount and out of band amount "
            f"({money_text(parts, currency)}) must equal the credit note amount "
            f"({money_text(post, currency)})."
        )
    if wanted.refund_amount:
        check_refundable(_charge(state, invoice), wanted.refund_amount, param="refund_amount")


def _charge(state: Sandbox, invoice: Object) -> Object:
    intent = state.find("payment_intent", invoice["_intent"] or "")
    charge = state.find("charge", intent["latest_charge"] or "") if intent is not None else None
    if charge is None:
        raise ApiError(
            "This invoice was not paid by a charge, so there is nothing to refund.", param="refund_amount"
        )
    return charge


def _linked(state: Sandbox, invoice: Object, wanted: Wanted) -> list[Object]:
    """Return credit_note.refunds rows for refunds that exist. Raises ApiError for one of another invoice."""
    rows = []
    for index, each in enumerate(wanted.refunds):
        name = f"refunds[{index}][refund]"
        refund = state.get("refund", each.get("refund", ""), param=name, status=400)
        taken = sum(
            row["amount_refunded"]
            for note in notes_of(state, invoice)
            for row in note["refunds"]
            if row["refund"] == refund["id"]
        )
        amount = each.get("amount_refunded", refund["amount"] - taken)
        if refund["charge"] != _charge(state, invoice)["id"] or not 1 <= amount <= refund["amount"] - taken:
            raise ApiError(
                f"The refund {refund['id']} is not of this invoice's payment, or not of that amount.",
                param=name,
            )
        rows.append(_refund_row(refund["id"], amount))
    return rows


def _refund_row(refund: str, amount: int) -> Object:
    return {"amount_refunded": amount, "payment_record_refund": None, "refund": refund, "type": "refund"}


def issue(state: Sandbox, invoice: Object, wanted: Wanted) -> Object:
    """Store and return a credit note, with what it brings about: a refund, a balance, a smaller invoice.

    Raises ApiError (400) as `draft_note` does.
    """
    note = draft_note(state, invoice, wanted)
    note["refunds"] = _linked(state, invoice, wanted)
    if wanted.refund_amount:
        refund = refund_charge(state, _charge(state, invoice), amount=wanted.refund_amount)
        note["refunds"].append(_refund_row(refund["id"], wanted.refund_amount))
    if wanted.credit_amount:
        transaction = change_balance(
            state,
            state.get_customer(invoice["customer"]),
            amount=-wanted.credit_amount,
            type="credit_note",
            currency=note["currency"],
            invoice=invoice,
            credit_note=note,
        )
        note["customer_balance_transaction"] = transaction["id"]
    state.create(note, event="credit_note.created")
    before = state.render(invoice)
    invoice["post_payment_credit_notes_amount"] += note["post_payment_amount"]
    _lower(state, invoice, note["pre_payment_amount"])
    state.update(invoice, before=before, event="invoice.updated")
    if note["pre_payment_amount"] and invoice["amount_remaining"] == 0:
        give_up_payment(state, invoice)
        mark_paid(state, invoice)
    return note


def _lower(state: Sandbox, invoice: Object, by: int) -> None:
    """Lower what is left to pay on an invoice, or with a negative amount raise it again."""
    if not by:
        return
    invoice["pre_payment_credit_notes_amount"] += by
    invoice["amount_due"] -= by
    invoice["amount_remaining"] -= by
    intent = state.find("payment_intent", invoice["_intent"] or "")
    if intent is not None and invoice["amount_remaining"]:
        set_amount(state, intent, invoice["amount_remaining"])
    for row in list(state.every("invoice_payment")):
        if row["invoice"] == invoice["id"] and row["status"] == "open":
            payment = state.get("invoice_payment", row["id"])
            payment["amount_requested"] = invoice["amount_remaining"]
            state.put(payment)


def void_note(state: Sandbox, note: Object) -> None:
    """Undo a credit note of an invoice that is still to be paid. Raises ApiError (400) for any other."""
    invoice = state.get("invoice", note["invoice"])
    if note["status"] == "void":
        raise ApiError("This credit note is already void.")
    if note["type"] != "pre_payment" or invoice["status"] not in ("open", "uncollectible"):
        raise ApiError(
            f"You can only void a credit note of an invoice that is not paid; this invoice is {invoice['status']}."
        )
    note.update(status="void", voided_at=state.now())
    state.put(note)
    before = state.render(invoice)
    _lower(state, invoice, -note["pre_payment_amount"])
    state.emit("credit_note.voided", note)
    state.update(invoice, before=before, event="invoice.updated")
