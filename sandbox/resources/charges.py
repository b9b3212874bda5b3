"""Charges: each is one try of a card."""

from sandbox.errors import ApiError
from sandbox.params import (
    ID,
    INT,
    METADATA,
    RANGE,
    STR,
    EmptyOr,
    Enum,
    Obj,
    Str,
    merge_metadata,
    unsupported,
)
from sandbox.payments.intent_options import SHIPPING, shipping
from sandbox.render import expandable, included
from sandbox.resources.refunds import refunds_of
from sandbox.routing import Call, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object

SHOWN = 10

expandable(
    "charge",
    {
        "application": "application",
        "application_fee": "application_fee",
        "failure_balance_transaction": "balance_transaction",
        "on_behalf_of": "account",
        "review": "review",
        "source_transfer": "transfer",
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "payment_intent": "payment_intent",
    },
)


def _refunds(state: Sandbox, charge: Object) -> Object:
    rows = refunds_of(state, charge)
    return {
        "object": "list",
        "data": [state.render(each) for each in rows[:SHOWN]],
        "has_more": len(rows) > SHOWN,
        "url": f"/v1/charges/{charge['id']}/refunds",
    }


included("charge", "refunds", _refunds)


@get("/v1/charges/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    return search(
        call,
        call.state.newest("charge"),
        fields=("amount", "currency", "customer", "disputed", "refunded", "status"),
    )


@get("/v1/charges/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("charge", call.args["id"])


@post(
    "/v1/charges/<id>",
    {
        "customer": ID,
        "description": EmptyOr(Str(max=1000)),
        "fraud_details": Obj({"user_report!": EmptyOr(Enum("fraudulent", "safe"))}),
        "metadata": METADATA,
        "receipt_email": EmptyOr(STR),
        "shipping": SHIPPING.type,
        "transfer_group": STR,
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    charge = state.get("charge", call.args["id"])
    before = state.render(charge)
    if "customer" in params:
        if charge["customer"] is not None:
            raise ApiError("You may only set the customer of a charge that has none.", param="customer")
        charge["customer"] = state.get_customer(params["customer"])["id"]
    if "fraud_details" in params:
        report = params["fraud_details"]["user_report"]
        charge["fraud_details"] = {"user_report": report} if report else {}
    if "metadata" in params:
        charge["metadata"] = merge_metadata(charge["metadata"], params["metadata"])
    if "shipping" in params:
        charge["shipping"] = shipping(params["shipping"])
    for name in ("description", "receipt_email", "transfer_group"):
        charge[name] = params.get(name, charge[name])
    return state.update(charge, before=before, event="charge.updated")


@lists(
    "/v1/charges", {"created": RANGE, "customer": ID, "payment_intent": ID, **unsupported("transfer_group")}
)
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("charge")
            if all(each[name] == params[name] for name in ("customer", "payment_intent") if name in params)
        ]
    )
