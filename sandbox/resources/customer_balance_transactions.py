"""The transactions of a customer's balance: adjustments over the API, and what invoices and credit notes do."""

from sandbox.errors import missing_resource
from sandbox.invoices.balance import change_balance
from sandbox.params import CURRENCY, ID, INT, METADATA, RANGE, EmptyOr, Str, merge_metadata
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

DESCRIPTION = EmptyOr(Str(max=350))

expandable(
    "customer_balance_transaction",
    {
        "checkout_session": "checkout.session",
        "credit_note": "credit_note",
        "customer": "customer",
        "invoice": "invoice",
    },
)


@post(
    "/v1/customers/<customer>/balance_transactions",
    {"amount!": INT, "currency!": CURRENCY, "description": DESCRIPTION, "metadata": METADATA},
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    customer = state.get_customer(call.args["customer"], status=404)
    transaction = change_balance(
        state,
        customer,
        amount=params["amount"],
        type="adjustment",
        currency=params["currency"],
        description=params.get("description"),
    )
    transaction["metadata"] = merge_metadata({}, params.get("metadata"))
    return state.put(transaction)


def _find(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    found = call.state.find("customer_balance_transaction", call.args["id"])
    if found is None or found["customer"] != customer["id"]:
        raise missing_resource("customer balance transaction", call.args["id"], param="transaction")
    return found


@get("/v1/customers/<customer>/balance_transactions/<id>")
def retrieve(call: Call) -> Object:
    return _find(call)


@post(
    "/v1/customers/<customer>/balance_transactions/<id>",
    {"description": DESCRIPTION, "metadata": METADATA},
)
def update(call: Call) -> Object:
    transaction = _find(call)
    if "metadata" in call.params:
        transaction["metadata"] = merge_metadata(transaction["metadata"], call.params["metadata"])
    transaction["description"] = call.params.get("description", transaction["description"])
    return call.state.put(transaction)


@lists("/v1/customers/<customer>/balance_transactions", {"created": RANGE, "invoice": ID})
def index(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    return call.page(
        [
            each
            for each in call.state.newest("customer_balance_transaction")
            if each["customer"] == customer["id"]
            and call.params.get("invoice", each["invoice"]) == each["invoice"]
        ]
    )
