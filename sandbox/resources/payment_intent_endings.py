"""How payment intents end over the API: by capture of what is held, or by cancelling."""

from sandbox.errors import ApiError, unsupported_parameter
from sandbox.params import BOOL, INT, METADATA, Enum, merge_metadata, unsupported
from sandbox.payments import paying
from sandbox.payments.intent_options import DESCRIPTOR
from sandbox.resources.payment_intents import get_intent, unexpected
from sandbox.routing import Call, post
from sandbox.store import Object

CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")


@post(
    "/v1/payment_intents/<id>/capture",
    {
        "amount_to_capture": INT,
        "final_capture": BOOL,
        "metadata": METADATA,
        "statement_descriptor": DESCRIPTOR,
        "statement_descriptor_suffix": DESCRIPTOR,
        **unsupported(
            "amount_details", "application_fee_amount", "hooks", "payment_details", "transfer_data"
        ),
    },
)
def capture(call: Call) -> Object:
    state, params = call.state, call.params
    intent = get_intent(state, call.args["id"])
    if intent["status"] != "requires_capture":
        raise unexpected(
            state,
            intent,
            "This PaymentIntent could not be captured because it has already been captured."
            if intent["status"] == "succeeded"
            else f"This PaymentIntent could not be captured because it has a status of {intent['status']}. "
            "Only a PaymentIntent with one of the following statuses may be captured: requires_capture.",
        )
    if not params.get("final_capture", True):
        raise unsupported_parameter("final_capture")
    held: int = intent["amount_capturable"]
    amount: int = params.get("amount_to_capture", held)
    if amount < 1:
        raise ApiError(
            "This value must be greater than or equal to 1.",
            code="parameter_invalid_integer",
            param="amount_to_capture",
        )
    if amount > held:
        raise ApiError(
            "The payment could not be captured because the requested capture amount is greater than the "
            "amount you can capture for this charge.",
            code="amount_too_large",
            param="amount_to_capture",
        )
    if "metadata" in params:
        intent["metadata"] = merge_metadata(intent["metadata"], params["metadata"])
    for name in ("statement_descriptor", "statement_descriptor_suffix"):
        intent[name] = params.get(name, intent[name])
    paying.capture(state, intent, amount=amount)
    return intent


@post(
    "/v1/payment_intents/<id>/cancel",
    {"cancellation_reason": Enum("abandoned", "duplicate", "fraudulent", "requested_by_customer")},
)
def cancel(call: Call) -> Object:
    state = call.state
    intent = get_intent(state, call.args["id"])
    if intent["status"] not in CANCELABLE:
        raise unexpected(
            state,
            intent,
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a "
            "PaymentIntent with one of the following statuses may be canceled: "
            f"{', '.join((*CANCELABLE, 'processing'))}.",
        )
    if intent["_invoice"] is not None:
        raise ApiError(
            "You cannot cancel this PaymentIntent because it pays an invoice. Void the invoice instead."
        )
    paying.cancel(state, intent, reason=call.params.get("cancellation_reason"))
    return intent
