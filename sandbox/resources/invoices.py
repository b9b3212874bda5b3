"""Invoices over the API."""

from sandbox.errors import ApiError, missing_resource
from sandbox.invoicing import collect
from sandbox.params import BOOL, ID, METADATA, RANGE, EmptyOr, Enum, Str, merge_metadata, unsupported
from sandbox.render import expandable, included
from sandbox.resources.payment_methods import get_attached
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import paying_method

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
included("invoice", "confirmation_secret", _confirmation_secret)


@get("/v1/invoices/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("invoice", call.args["id"])


@post("/v1/invoices/<id>", {"metadata": METADATA, "description": EmptyOr(Str(max=1500))})
def update(call: Call) -> Object:
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    before = state.render(invoice)
    if "metadata" in call.params:
        invoice["metadata"] = merge_metadata(invoice["metadata"], call.params["metadata"])
    invoice["description"] = call.params.get("description", invoice["description"])
    return state.update(invoice, before=before, event="invoice.updated")


@lists("/v1/invoices/<id>/lines")
def lines(call: Call) -> Object:
    # Lines come in the order they have on the invoice, unlike lists of things.
    return call.page(call.state.get("invoice", call.args["id"])["lines"]["data"])


@post(
    "/v1/invoices/<id>/pay",
    {
        "payment_method": ID,
        "off_session": BOOL,
        **unsupported("forgive", "mandate", "paid_out_of_band", "source"),
    },
)
def pay(call: Call) -> "Object | ApiError":
    """Collect an open invoice; a first invoice paid this way makes its subscription active."""
    state = call.state
    invoice = state.get("invoice", call.args["id"])
    if invoice["status"] == "paid":
        raise ApiError("Invoice is already paid")
    if invoice["status"] != "open":
        raise ApiError(f"Invoice with status {invoice['status']} cannot be paid.")
    customer = state.get_customer(invoice["customer"])
    subscription = state.get("subscription", invoice["parent"]["subscription_details"]["subscription"])
    method: Object | None
    if "payment_method" in call.params:
        method = get_attached(
            state, call.params["payment_method"], customer=customer["id"], param="payment_method"
        )
    else:
        method = paying_method(state, subscription, customer=customer)
    if method is None:
        raise missing_resource("PaymentMethod", "", param="payment_method", status=400)
    before = state.render(subscription)
    decline = collect(state, invoice, method)
    if decline is not None:
        # Returned, not raised: the failed charge and its events stay.
        return decline.error()
    if subscription["status"] in ("incomplete", "past_due", "unpaid"):
        subscription["status"] = "active"
        state.update(subscription, before=before, event="customer.subscription.updated")
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
    return call.page(
        [
            each
            for each in call.state.newest("invoice")
            if all(
                each[name] == params[name]
                for name in ("collection_method", "customer", "status")
                if name in params
            )
            and (
                "subscription" not in params
                or each["parent"]["subscription_details"]["subscription"] == params["subscription"]
            )
        ]
    )
