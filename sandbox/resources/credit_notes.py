"""Credit notes over the API."""

from typing import Any

from sandbox.invoices.crediting import Wanted, draft_note, issue, void_note
from sandbox.params import (
    DEC,
    ID,
    INT,
    NEW_METADATA,
    RANGE,
    STR,
    TIME,
    Choice,
    EmptyOr,
    Enum,
    ListOf,
    NewMetadata,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

LINE = Obj(
    {
        "type!": Enum("custom_line_item", "invoice_line_item"),
        "amount": INT,
        "description": STR,
        "invoice_line_item": ID,
        "metadata": NEW_METADATA,
        "quantity": INT,
        "tax_amounts": EmptyOr(ListOf(Obj({"amount!": INT, "tax_rate!": ID, "taxable_amount!": INT}))),
        "tax_rates": EmptyOr(ListOf(ID)),
        "unit_amount": INT,
        "unit_amount_decimal": DEC,
    }
)
REFUND = Obj(
    {
        "amount_refunded": INT,
        "refund": ID,
        "type": Choice("refund", "payment_record_refund"),
        **unsupported("payment_record_refund"),
    }
)
MEMO = Str(max=5000)
WRITABLE: Table = {
    "amount": INT,
    "credit_amount": INT,
    "effective_at": TIME,
    "email_type": Enum("credit_note", "none"),
    "invoice!": ID,
    "lines": ListOf(LINE),
    "memo": MEMO,
    "metadata": NewMetadata(),
    "out_of_band_amount": INT,
    "reason": Enum("duplicate", "fraudulent", "order_change", "product_unsatisfactory"),
    "refund_amount": INT,
    "refunds": ListOf(REFUND),
    **unsupported("shipping_cost"),
}

expandable(
    "credit_note",
    {
        "customer": "customer",
        "customer_balance_transaction": "customer_balance_transaction",
        "discount_amounts.discount": "discount",
        "invoice": "invoice",
        "refunds.refund": "refund",
    },
)
expandable("credit_note_line_item", {"discount_amounts.discount": "discount"})


def _wanted(params: dict[str, Any]) -> Wanted:
    return Wanted(
        amount=params.get("amount"),
        lines=params.get("lines"),
        refund_amount=params.get("refund_amount", 0),
        credit_amount=params.get("credit_amount", 0),
        out_of_band_amount=params.get("out_of_band_amount"),
        refunds=params.get("refunds", []),
        memo=params.get("memo"),
        reason=params.get("reason"),
        effective_at=params.get("effective_at"),
        metadata=merge_metadata({}, params.get("metadata")),
    )


def _invoice(call: Call) -> Object:
    return call.state.get("invoice", call.params["invoice"], param="invoice", status=400)


@post("/v1/credit_notes", WRITABLE)
def create(call: Call) -> Object:
    return issue(call.state, _invoice(call), _wanted(call.params))


@get("/v1/credit_notes/preview", WRITABLE)
def preview(call: Call) -> Object:
    return draft_note(call.state, _invoice(call), _wanted(call.params))


@lists("/v1/credit_notes/preview/lines", WRITABLE)
def preview_lines(call: Call) -> Object:
    return call.page(draft_note(call.state, _invoice(call), _wanted(call.params))["_lines"])


def _find(call: Call) -> Object:
    return call.state.get("credit_note", call.args["id"], noun="credit note")


@get("/v1/credit_notes/<id>")
def retrieve(call: Call) -> Object:
    return _find(call)


@lists("/v1/credit_notes/<id>/lines")
def lines(call: Call) -> Object:
    # In the order they have on the credit note, unlike lists of things.
    return call.page(_find(call)["_lines"])


@post("/v1/credit_notes/<id>", {"memo": MEMO, "metadata": NEW_METADATA})
def update(call: Call) -> Object:
    note = _find(call)
    before = call.state.render(note)
    if "metadata" in call.params:
        note["metadata"] = merge_metadata(note["metadata"], call.params["metadata"])
    note["memo"] = call.params.get("memo", note["memo"])
    return call.state.update(note, before=before, event="credit_note.updated")


@post("/v1/credit_notes/<id>/void")
def void(call: Call) -> Object:
    note = _find(call)
    void_note(call.state, note)
    return note


@lists(
    "/v1/credit_notes",
    {"created": RANGE, "customer": ID, "invoice": ID, **unsupported("customer_account")},
)
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("credit_note")
            if all(each[name] == params[name] for name in ("customer", "invoice") if name in params)
        ]
    )
