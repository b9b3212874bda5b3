"""Invoices over the API."""

from typing import Any

from sandbox.catalog.taxing import shows_tax_rates
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.invoices.collecting import advance, resume_collecting, revive
from sandbox.invoices.editing import EDITABLE, edit_draft, edit_finalized
from sandbox.invoices.invoice_items import pending
from sandbox.invoices.invoice_shape import subscription_of, subscription_parent
from sandbox.invoices.invoicing import (
    collect,
    draft_invoice,
    finalize,
    mark_paid,
    mark_uncollectible,
    void,
)
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    RANGE,
    STR,
    Enum,
    Int,
    unsupported,
)
from sandbox.render import computed, expandable, included
from sandbox.resources.payment_methods import get_attached
from sandbox.routing import Call, delete, get, lists, post, within
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.pending_updates import awaits, drop_pending_update
from sandbox.subscriptions.resuming import settled
from sandbox.subscriptions.subscribing import paying_method

expandable(
    "invoice",
    {
        "discounts": "discount",
        "default_source": "source",
        "application": "application",
        "on_behalf_of": "account",
        "account_tax_ids": "tax_id",
        "customer": "customer",
        "default_payment_method": "payment_method",
        "latest_revision": "invoice",
        "parent.subscription_details.subscription": "subscription",
        "test_clock": "test_helpers.test_clock",
    },
)
expandable(
    "line_item",
    {"discounts": "discount", "pricing.price_details.price": "price", "subscription": "subscription"},
)


def _payments(state: Sandbox, invoice: Object) -> Object:
    rows = [
        state.render(each) for each in state.newest("invoice_payment") if each["invoice"] == invoice["id"]
    ]
    return {
        "object": "list",
        "data": rows,
        "has_more": False,
        "url": f"/v1/invoice_payments?invoice={invoice['id']}",
    }


def _confirmation_secret(state: Sandbox, invoice: Object) -> Object | None:
    intent = state.find("payment_intent", invoice["_intent"]) if invoice["_intent"] else None
    return None if intent is None else {"client_secret": intent["client_secret"], "type": "payment_intent"}


included("invoice", "payments", _payments)
computed(
    "invoice",
    "lines",
    lambda state, invoice: {
        **invoice["lines"],
        "data": [state.render(line) for line in invoice["lines"]["data"]],
    },
)
shows_tax_rates("invoice", "default_tax_rates")
included("invoice", "confirmation_secret", _confirmation_secret)


@post(
    "/v1/invoices",
    {
        **EDITABLE,
        "currency": CURRENCY,
        "customer": ID,
        "pending_invoice_items_behavior": Enum("exclude", "include"),
        "subscription": ID,
        **unsupported("customer_account", "from_invoice"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "customer" not in params:
        raise missing_parameter("customer")
    customer = state.get_customer(params["customer"])
    subscription = None
    if "subscription" in params:
        subscription = state.get("subscription", params["subscription"], param="subscription", status=400)
        if subscription["customer"] != customer["id"]:
            raise ApiError("The subscription belongs to another customer.", param="subscription")
    if (
        subscription is not None
        and params.get("pending_invoice_items_behavior", "exclude") == "exclude"
        and not pending(
            state,
            customer=customer["id"],
            subscription=subscription["id"],
            currency=subscription["currency"],
        )
    ):
        raise ApiError(
            f"Nothing to invoice for subscription {subscription['id']}.",
            code="invoice_no_subscription_line_items",
            param="subscription",
        )
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=None,
        lines=[],
        reason="manual",
        period=(state.now(), state.now()),
        currency=params["currency"].lower() if "currency" in params else (subscription or {}).get("currency"),
        pull=params.get("pending_invoice_items_behavior") == "include" or subscription is not None,
        auto_advance=params.get("auto_advance", False),
        parent=subscription_parent(subscription) if subscription else None,
    )
    before = state.render(invoice)
    edit_draft(state, invoice, params, customer=customer)
    state.put(invoice)
    if invoice["auto_advance"]:
        _plan(state, invoice)
    state.update(invoice, before=before, event="invoice.updated")
    return invoice


def _plan(state: Sandbox, invoice: Object) -> None:
    at = invoice["automatically_finalizes_at"] or state.now() + 3600
    invoice["automatically_finalizes_at"] = at
    state.agenda.set("invoice.finalize", invoice["id"], at)
    state.put(invoice)


@get("/v1/invoices/search", {"query!": STR, "limit": Int(), "page": STR})
def find(call: Call) -> Object:
    told = ("currency", "customer", "last_finalization_error_code", "number", "receipt_number", "status")
    fields = ("created", "total", *told)
    return search(call, call.state.newest("invoice"), fields=fields)


@get("/v1/invoices/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("invoice", call.args["id"])


@post("/v1/invoices/<id>", EDITABLE)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    invoice = state.get("invoice", call.args["id"])
    open_to_all = {"metadata", "description", "auto_advance", "default_payment_method", "footer"}
    if invoice["status"] != "draft" and set(params) - open_to_all:
        named = sorted(set(params) - open_to_all)[0]
        raise ApiError(f"Finalized invoices can't be updated in this way ({named}).", param=named)
    before = state.render(invoice)
    if invoice["status"] == "draft":
        edit_draft(state, invoice, params, customer=state.get("customer", invoice["customer"]))
        state.agenda.drop("invoice.finalize", identifier=invoice["id"])
        if invoice["auto_advance"]:
            _plan(state, invoice)
        else:
            invoice["automatically_finalizes_at"] = None
    else:
        edit_finalized(state, invoice, params)
        if params.get("auto_advance") and not before["auto_advance"]:
            resume_collecting(state, invoice)
    return state.update(invoice, before=before, event="invoice.updated")


@delete("/v1/invoices/<id>")
def remove(call: Call) -> Object:
    """Delete a draft that is no subscription's; its items wait for another invoice again."""
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] != "draft" or invoice["billing_reason"] != "manual":
        raise ApiError("You can only delete draft invoices that are not a subscription's own.")
    for each in list(state.every("invoiceitem")):
        if each.get("invoice") == invoice["id"]:
            item = state.get("invoiceitem", each["id"])
            item["invoice"] = None
            state.put(item)
    state.agenda.drop("invoice.finalize", identifier=invoice["id"])
    state.emit("invoice.deleted", invoice)
    state.store.remove("invoice", invoice["id"])
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


@lists("/v1/invoices/<id>/lines")
def lines(call: Call) -> Object:
    # Lines come in the order they have on the invoice, unlike lists of things.
    return call.page(call.state.get("invoice", call.args["id"])["lines"]["data"])


@post("/v1/invoices/<id>/finalize", {"auto_advance": BOOL})
def finalize_now(call: Call) -> Object:
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] != "draft":
        raise ApiError(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
            code="invoice_not_editable",
        )
    if "auto_advance" in call.params:
        invoice["auto_advance"] = call.params["auto_advance"]
    if invoice["auto_advance"]:
        advance(state, invoice)
    else:
        finalize(state, invoice)
    return invoice


@post(
    "/v1/invoices/<id>/pay",
    {
        "forgive": BOOL,
        "off_session": BOOL,
        "paid_out_of_band": BOOL,
        "payment_method": ID,
        **unsupported("mandate", "source"),
    },
)
def pay(call: Call) -> "Object | ApiError":
    """Collect an invoice now; a draft is finalized first. A first invoice paid starts its subscription."""
    state, params = call.state, call.params
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] == "paid":
        raise ApiError("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] == "draft":
        finalize(state, invoice)
    if invoice["status"] == "paid":
        return invoice
    if invoice["status"] not in ("open", "uncollectible"):
        raise ApiError(f"Invoice with status {invoice['status']} cannot be paid.")
    if params.get("paid_out_of_band"):
        mark_paid(state, invoice, paid_out_of_band=True)
        return invoice
    customer = state.get_customer(invoice["customer"])
    subscription = state.find("subscription", subscription_of(invoice) or "")
    if "payment_method" in params:
        method: Object | None = get_attached(
            state, params["payment_method"], customer=customer["id"], param="payment_method"
        )
    else:
        method = paying_method(state, subscription, customer=customer, invoice=invoice)
    if method is None:
        raise missing_resource("PaymentMethod", "", param="payment_method", status=400)
    decline = collect(state, invoice, method, off_session=params.get("off_session", True))
    if decline is not None:
        # Returned, not raised: the failed charge and its events stay.
        return decline.error()
    if invoice["status"] != "paid":
        return ApiError(
            "This payment requires additional user action before it can be completed successfully.",
            status=402,
            type="card_error",
            code="invoice_payment_intent_requires_action",
        )
    return invoice


@post("/v1/invoices/<id>/void")
def void_now(call: Call) -> Object:
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] not in ("open", "uncollectible"):
        raise ApiError(
            "You can only pass in open invoices. This invoice isn't open.", code="invoice_not_editable"
        )
    void(state, invoice)
    subscription = state.find("subscription", subscription_of(invoice) or "")
    if subscription is not None:
        if awaits(subscription, invoice):
            # Voiding its invoice is how a seller gives a pending update up.
            drop_pending_update(state, subscription)
        revive(state, subscription, invoice)
    return invoice


@post("/v1/invoices/<id>/mark_uncollectible")
def write_off(call: Call) -> Object:
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] not in ("draft", "open"):
        raise ApiError(f"Invoice with status {invoice['status']} cannot be marked uncollectible.")
    if invoice["status"] == "draft":
        finalize(state, invoice)
    mark_uncollectible(state, invoice)
    settled(state, invoice)
    subscription = state.find("subscription", subscription_of(invoice) or "")
    if subscription is not None:
        revive(state, subscription, invoice)
    return invoice


@post("/v1/invoices/<id>/send")
def send(call: Call) -> Object:
    """Mail an invoice, which here means telling of it; a draft is finalized first."""
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["collection_method"] != "send_invoice":
        raise ApiError("You can only manually send an invoice if its collection method is 'send_invoice'.")
    if invoice["status"] == "draft":
        finalize(state, invoice)
    if invoice["status"] not in ("open", "paid"):
        raise ApiError(f"Invoice with status {invoice['status']} cannot be sent.")
    state.emit("invoice.sent", invoice)
    return invoice


@lists(
    "/v1/invoices",
    {
        "collection_method": Enum("charge_automatically", "send_invoice"),
        "created": RANGE,
        "customer": ID,
        "due_date": RANGE,
        "status": Enum("draft", "open", "paid", "uncollectible", "void"),
        "subscription": ID,
        **unsupported("customer_account"),
    },
)
def index(call: Call) -> Object:
    params = call.params
    return call.page([each for each in call.state.newest("invoice") if _listed(each, params)])


def _listed(invoice: Object, params: dict[str, Any]) -> bool:
    if any(
        invoice[name] != params[name]
        for name in ("collection_method", "customer", "status")
        if name in params
    ):
        return False
    if "due_date" in params and (
        invoice["due_date"] is None or not within(invoice["due_date"], params["due_date"])
    ):
        return False
    return "subscription" not in params or subscription_of(invoice) == params["subscription"]
