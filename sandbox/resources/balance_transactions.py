"""Balance transactions: what each charge and refund did to the account's own balance."""

from sandbox.params import CURRENCY, ID, RANGE, STR, unsupported
from sandbox.render import computed, expandable
from sandbox.routing import Call, get, lists
from sandbox.store import Object

expandable("balance_transaction", {"source": "charge"})
computed(
    "balance_transaction",
    "status",
    lambda state, row: "available" if state.now() >= row["available_on"] else "pending",
)


@get("/v1/balance_transactions/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("balance_transaction", call.args["id"], noun="balance transaction")


@lists(
    "/v1/balance_transactions",
    {"created": RANGE, "currency": CURRENCY, "source": ID, "type": STR, **unsupported("payout")},
)
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("balance_transaction")
            if all(each[name] == params[name] for name in ("currency", "source", "type") if name in params)
        ]
    )
