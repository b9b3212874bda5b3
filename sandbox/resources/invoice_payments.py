"""Which payment settled which invoice."""

from sandbox.params import ID, RANGE, Enum, Obj
from sandbox.render import expandable
from sandbox.routing import Call, get, lists
from sandbox.store import Object

expandable("invoice_payment", {"invoice": "invoice", "payment.payment_intent": "payment_intent"})


@get("/v1/invoice_payments/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("invoice_payment", call.args["id"], noun="invoice_payment")


@lists(
    "/v1/invoice_payments",
    {
        "created": RANGE,
        "invoice": ID,
        "status": Enum("canceled", "open", "paid"),
        "payment": Obj(
            {"type!": Enum("payment_intent", "payment_record"), "payment_intent": ID, "payment_record": ID}
        ),
    },
)
def index(call: Call) -> Object:
    params = call.params
    intent = params.get("payment", {}).get("payment_intent")
    return call.page(
        [
            each
            for each in call.state.newest("invoice_payment")
            if all(each[name] == params[name] for name in ("invoice", "status") if name in params)
            and (intent is None or each["payment"]["payment_intent"] == intent)
        ]
    )
