"""Refunds over the API."""

from sandbox.errors import ApiError
from sandbox.params import ID, INT, METADATA, RANGE, Enum, merge_metadata, unsupported
from sandbox.payments.refunding import check_refundable, refund_charge
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

expandable(
    "refund",
    {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
        "source_transfer_reversal": "transfer_reversal",
        "transfer_reversal": "transfer_reversal",
    },
)


def _charge(state: Sandbox, params: Object) -> Object:
    """Return the charge a refund is of. Raises ApiError where none is named, or none has the money."""
    if "payment_intent" not in params:
        if "charge" not in params:
            raise ApiError(
                "One of the following params should be provided for this request: payment_intent or charge."
            )
        return state.get("charge", params["charge"], param="charge", status=400)
    intent = state.get(
        "payment_intent", params["payment_intent"], noun="payment_intent", param="payment_intent", status=400
    )
    charge = state.find("charge", intent["latest_charge"]) if intent["latest_charge"] else None
    if charge is None or intent["status"] != "succeeded":
        raise ApiError(
            f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
            param="payment_intent",
        )
    if params.get("charge", charge["id"]) != charge["id"]:
        raise ApiError(
            f"The charge {params['charge']} does not belong to the PaymentIntent {intent['id']}.",
            param="charge",
        )
    return charge


@post(
    "/v1/refunds",
    {
        "amount": INT,
        "charge": ID,
        "metadata": METADATA,
        "payment_intent": ID,
        "reason": Enum("duplicate", "fraudulent", "requested_by_customer"),
        **unsupported(
            "currency",
            "customer",
            "instructions_email",
            "origin",
            "refund_application_fee",
            "reverse_transfer",
        ),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    charge = _charge(state, params)
    return refund_charge(
        state,
        charge,
        amount=check_refundable(charge, params.get("amount")),
        reason=params.get("reason"),
        metadata=merge_metadata({}, params.get("metadata")),
    )


@get("/v1/refunds/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("refund", call.args["id"])


@post("/v1/refunds/<id>", {"metadata": METADATA})
def update(call: Call) -> Object:
    state = call.state
    refund = state.get("refund", call.args["id"])
    before = state.render(refund)
    if "metadata" in call.params:
        refund["metadata"] = merge_metadata(refund["metadata"], call.params["metadata"])
    state.update(refund, before=before, event="refund.updated")
    return state.update(refund, before=before, event="charge.refund.updated")


@post("/v1/refunds/<id>/cancel")
def cancel(call: Call) -> Object:
    refund = call.state.get("refund", call.args["id"])
    # Only ways of paying that ask the payer to act get there, and a card does not.
    raise ApiError(
        f"You cannot cancel a refund with a status of {refund['status']}. Only refunds with the status "
        "requires_action may be canceled."
    )


@lists("/v1/refunds", {"charge": ID, "created": RANGE, "payment_intent": ID})
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("refund")
            if all(each[name] == params[name] for name in ("charge", "payment_intent") if name in params)
        ]
    )


def refunds_of(state: Sandbox, charge: Object) -> list[Object]:
    return [each for each in state.newest("refund") if each["charge"] == charge["id"]]


@lists("/v1/charges/<charge>/refunds")
def index_of_charge(call: Call) -> Object:
    charge = call.state.get("charge", call.args["charge"])
    return call.page(refunds_of(call.state, charge))


@get("/v1/charges/<charge>/refunds/<id>")
def retrieve_of_charge(call: Call) -> Object:
    charge = call.state.get("charge", call.args["charge"])
    refund = call.state.get("refund", call.args["id"])
    if refund["charge"] != charge["id"]:
        raise ApiError(f"No such refund: '{refund['id']}'", status=404, code="resource_missing", param="id")
    return refund
