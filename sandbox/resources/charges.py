"""Charges, read-only: each is one try of a card."""

from sandbox.params import ID, RANGE, unsupported
from sandbox.render import expandable, included
from sandbox.routing import Call, get, lists
from sandbox.store import Object

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
included(
    "charge",
    "refunds",
    lambda state, charge: {
        "object": "list",
        "data": [],
        "has_more": False,
        "url": f"/v1/charges/{charge['id']}/refunds",
    },
)


@get("/v1/charges/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("charge", call.args["id"])


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
