"""Payment intents, read-only: invoices make and settle them."""

from sandbox.params import ID, RANGE, unsupported
from sandbox.render import expandable
from sandbox.routing import Call, get, lists
from sandbox.store import Object

expandable(
    "payment_intent",
    {
        "application": "application",
        "on_behalf_of": "account",
        "review": "review",
        "customer": "customer",
        "latest_charge": "charge",
        "payment_method": "payment_method",
    },
)


@get("/v1/payment_intents/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("payment_intent", call.args["id"], noun="payment_intent", param="intent")


@lists("/v1/payment_intents", {"created": RANGE, "customer": ID, **unsupported("customer_account")})
def index(call: Call) -> Object:
    customer = call.params.get("customer")
    return call.page(
        [
            each
            for each in call.state.newest("payment_intent")
            if customer is None or each["customer"] == customer
        ]
    )
