"""Setup intents over the API: saving a card for later."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.params import (
    BOOL,
    ID,
    METADATA,
    NEW_METADATA,
    RANGE,
    STR,
    Enum,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.payments import setting_up
from sandbox.payments.intent_options import (
    AUTOMATIC,
    CARD_OPTIONS,
    MANDATE_DATA,
    METHOD_TYPES,
    apply_card_options,
    automatic_methods,
    check_return_url,
    check_secret,
    method_options,
    only_with_confirm,
)
from sandbox.payments.methods import usable
from sandbox.payments.payment_types import SETUP_OPTIONS
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
OPTIONS = method_options(CARD_OPTIONS, others=SETUP_OPTIONS)
USAGE = Enum("off_session", "on_session")
CONFIRMATION: Table = {
    "mandate_data": MANDATE_DATA,
    "return_url": STR,
    "use_stripe_sdk": BOOL,
    **unsupported("confirmation_token", "payment_method_data"),
}

expandable(
    "setup_intent",
    {
        "application": "application",
        "customer": "customer",
        "latest_attempt": "setup_attempt",
        "mandate": "mandate",
        "on_behalf_of": "account",
        "payment_method": "payment_method",
        "single_use_mandate": "mandate",
    },
)


def get_setup_intent(state: Sandbox, identifier: str) -> Object:
    return state.get("setup_intent", identifier, noun="setupintent", param="intent")


def _unexpected(state: Sandbox, intent: Object, message: str) -> ApiError:
    return ApiError(message, code="setup_intent_unexpected_state", setup_intent=state.render(intent))


@post(
    "/v1/setup_intents",
    {
        "automatic_payment_methods": AUTOMATIC,
        "confirm": BOOL,
        "customer": ID,
        "description": Str(max=1000),
        "metadata": NEW_METADATA,
        "payment_method": ID,
        "payment_method_options": OPTIONS,
        "payment_method_types": METHOD_TYPES,
        "usage": USAGE,
        **CONFIRMATION,
        **unsupported(
            "attach_to_self",
            "customer_account",
            "excluded_payment_method_types",
            "flow_directions",
            "on_behalf_of",
            "payment_method_configuration",
            "single_use",
        ),
    },
)
def create(call: Call) -> Object | ApiError:
    state, params = call.state, call.params
    only_with_confirm(params, "return_url", "mandate_data")
    customer = state.get_customer(params["customer"])["id"] if "customer" in params else None
    automatic = automatic_methods(params)
    method = _method(state, params, customer=customer)
    intent = setting_up.new_setup_intent(
        state,
        customer=customer,
        usage=params.get("usage", "off_session"),
        automatic_payment_methods=automatic,
        description=params.get("description"),
        metadata=merge_metadata({}, params.get("metadata")),
        payment_method=method["id"] if method else None,
        status="requires_confirmation" if method else "requires_payment_method",
    )
    apply_card_options(intent, params)
    state.put(intent)
    return _confirm(state, intent, params) if params.get("confirm") else intent


def _method(state: Sandbox, params: dict[str, Any], *, customer: str | None) -> Object | None:
    if "payment_method" not in params:
        return None
    return usable(state, params["payment_method"], customer=customer, on="SetupIntent")


def _confirm(state: Sandbox, intent: Object, params: dict[str, Any]) -> Object | ApiError:
    """Try the intent's card. A decline is returned, not raised: the attempt and its events stay."""
    intent["_return_url"] = params.get("return_url", intent["_return_url"])
    intent["_use_stripe_sdk"] = params.get("use_stripe_sdk", False)
    check_return_url(intent)
    if intent["payment_method"] is None:
        raise _unexpected(
            state,
            intent,
            "You cannot confirm this SetupIntent because it's missing a payment method. You can either update "
            "the SetupIntent with a payment method and then confirm it again, or confirm it again directly "
            "with a payment method or ConfirmationToken.",
        )
    method = usable(state, intent["payment_method"], customer=intent["customer"], on="SetupIntent")
    decline = setting_up.confirm_setup(state, intent, method)
    if decline is not None:
        return decline.error(**setting_up.error_of(state, intent))
    return intent


@get("/v1/setup_intents/<id>", {"client_secret": STR})
def retrieve(call: Call) -> Object:
    intent = get_setup_intent(call.state, call.args["id"])
    check_secret(intent, call.params)
    return intent


@post(
    "/v1/setup_intents/<id>",
    {
        "customer": ID,
        "description": Str(max=1000),
        "metadata": METADATA,
        "payment_method": ID,
        "payment_method_options": OPTIONS,
        "payment_method_types": METHOD_TYPES,
        **unsupported(
            "attach_to_self",
            "customer_account",
            "excluded_payment_method_types",
            "flow_directions",
            "payment_method_configuration",
            "payment_method_data",
        ),
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    intent = get_setup_intent(state, call.args["id"])
    changed = [name for name in ("customer", "payment_method", "payment_method_options") if name in params]
    if changed and intent["status"] not in OPEN:
        raise _unexpected(
            state,
            intent,
            f"This SetupIntent's {changed[0]} could not be updated because it has a status of "
            f"{intent['status']}.",
        )
    if "customer" in params:
        intent["customer"] = state.get_customer(params["customer"])["id"]
    method = _method(state, params, customer=intent["customer"])
    if method is not None:
        intent.update(payment_method=method["id"], status="requires_confirmation", next_action=None)
    if "payment_method_types" in params:
        intent["automatic_payment_methods"] = automatic_methods(params)
    apply_card_options(intent, params)
    if "metadata" in params:
        intent["metadata"] = merge_metadata(intent["metadata"], params["metadata"])
    intent["description"] = params.get("description", intent["description"])
    return state.put(intent)


@post(
    "/v1/setup_intents/<id>/confirm",
    {"client_secret": STR, "payment_method": ID, "payment_method_options": OPTIONS, **CONFIRMATION},
)
def confirm(call: Call) -> Object | ApiError:
    state, params = call.state, call.params
    intent = get_setup_intent(state, call.args["id"])
    check_secret(intent, params)
    if intent["status"] not in OPEN:
        raise _unexpected(
            state,
            intent,
            "You cannot confirm this SetupIntent because it has already succeeded."
            if intent["status"] == "succeeded"
            else f"You cannot confirm this SetupIntent because it has a status of {intent['status']}.",
        )
    method = _method(state, params, customer=intent["customer"])
    if method is not None:
        intent["payment_method"] = method["id"]
    apply_card_options(intent, params)
    return _confirm(state, intent, params)


@post(
    "/v1/setup_intents/<id>/cancel",
    {"cancellation_reason": Enum("abandoned", "duplicate", "requested_by_customer")},
)
def cancel(call: Call) -> Object:
    state = call.state
    intent = get_setup_intent(state, call.args["id"])
    if intent["status"] not in OPEN:
        raise _unexpected(
            state,
            intent,
            f"You cannot cancel this SetupIntent because it has a status of {intent['status']}. Only a "
            f"SetupIntent with one of the following statuses may be canceled: {', '.join(OPEN)}.",
        )
    setting_up.cancel_setup(state, intent, reason=call.params.get("cancellation_reason"))
    return intent


@lists(
    "/v1/setup_intents",
    {
        "created": RANGE,
        "customer": ID,
        "payment_method": ID,
        **unsupported("attach_to_self", "customer_account"),
    },
)
def index(call: Call) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("setup_intent")
            if all(each[name] == params[name] for name in ("customer", "payment_method") if name in params)
        ]
    )
