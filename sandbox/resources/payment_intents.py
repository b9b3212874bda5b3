"""Payment intents over the API: one payment from first try to money, or not."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    INT,
    METADATA,
    NEW_METADATA,
    RANGE,
    STR,
    Choice,
    EmptyOr,
    Enum,
    Int,
    OneOf,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.payments import paying
from sandbox.payments.intent_options import (
    AUTOMATIC,
    CARD_OPTIONS,
    DESCRIPTOR,
    MANDATE_DATA,
    METHOD_TYPES,
    SHIPPING,
    apply_card_options,
    automatic_methods,
    check_amount,
    check_return_url,
    check_secret,
    method_options,
    only_with_confirm,
    shipping,
)
from sandbox.payments.methods import usable
from sandbox.payments.payment_types import PAYMENT_OPTIONS
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object

OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")
FUTURE = Enum("off_session", "on_session")
CAPTURE = Enum("automatic", "automatic_async", "manual")
OPTIONS = method_options(
    {
        **CARD_OPTIONS,
        **unsupported(
            "capture_method",
            "cvc_token",
            "installments",
            "request_extended_authorization",
            "request_incremental_authorization",
            "request_multicapture",
            "request_overcapture",
            "require_cvc_recollection",
            "setup_future_usage",
            "statement_descriptor_suffix_kana",
            "statement_descriptor_suffix_kanji",
        ),
    },
    others=PAYMENT_OPTIONS,
)
# Elsewhere in Stripe's product, or of other ways of paying than cards.
EXOTIC = (
    "amount_details",
    "excluded_payment_method_types",
    "hooks",
    "payment_details",
    "payment_method_data",
)
CONFIRMATION: Table = {
    "error_on_requires_action": BOOL,
    "mandate_data": MANDATE_DATA,
    "off_session": OneOf(BOOL, Enum("one_off", "recurring")),
    "return_url": STR,
    "use_stripe_sdk": BOOL,
    **unsupported("confirmation_token", "mandate", "radar_options"),
}

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


def get_intent(state: Sandbox, identifier: str) -> Object:
    return state.get("payment_intent", identifier, noun="payment_intent", param="intent")


def unexpected(state: Sandbox, intent: Object, message: str) -> ApiError:
    return ApiError(message, code="payment_intent_unexpected_state", payment_intent=state.render(intent))


@post(
    "/v1/payment_intents",
    {
        "amount!": INT,
        "automatic_payment_methods": AUTOMATIC,
        "capture_method": CAPTURE,
        "confirm": BOOL,
        "confirmation_method": Choice("automatic", "manual"),
        "currency!": CURRENCY,
        "customer": ID,
        "description": Str(max=1000),
        "metadata": NEW_METADATA,
        "payment_method": ID,
        "payment_method_options": OPTIONS,
        "payment_method_types": METHOD_TYPES,
        "receipt_email": STR,
        "setup_future_usage": FUTURE,
        "shipping": SHIPPING.type,
        "statement_descriptor": DESCRIPTOR,
        "statement_descriptor_suffix": DESCRIPTOR,
        "transfer_group": STR,
        **CONFIRMATION,
        **unsupported(
            *EXOTIC,
            "application_fee_amount",
            "customer_account",
            "on_behalf_of",
            "payment_method_configuration",
            "transfer_data",
        ),
    },
)
def create(call: Call) -> Object | ApiError:
    state, params = call.state, call.params
    currency = params["currency"].lower()
    check_amount(params["amount"], currency)
    only_with_confirm(params, "off_session", "return_url", "error_on_requires_action", "mandate_data")
    customer = state.get_customer(params["customer"])["id"] if "customer" in params else None
    automatic = automatic_methods(params)
    method = (
        usable(state, params["payment_method"], customer=customer) if "payment_method" in params else None
    )
    intent = paying.new_intent(
        state,
        amount=params["amount"],
        currency=currency,
        customer=customer,
        description=params.get("description"),
        setup_future_usage=params.get("setup_future_usage"),
        automatic_payment_methods=automatic,
        capture_method=params.get("capture_method", "automatic_async"),
        metadata=merge_metadata({}, params.get("metadata")),
        payment_method=method["id"] if method else None,
        receipt_email=params.get("receipt_email"),
        shipping=shipping(params.get("shipping")),
        statement_descriptor=params.get("statement_descriptor"),
        statement_descriptor_suffix=params.get("statement_descriptor_suffix"),
        status="requires_confirmation" if method else "requires_payment_method",
        transfer_group=params.get("transfer_group"),
    )
    apply_card_options(intent, params)
    state.put(intent)
    return _confirm(state, intent, params) if params.get("confirm") else intent


def _confirm(state: Sandbox, intent: Object, params: dict[str, Any]) -> Object | ApiError:
    """Try the intent's card. A decline is returned, not raised: the failed charge and its events stay."""
    intent["_return_url"] = params.get("return_url", intent["_return_url"])
    intent["_use_stripe_sdk"] = params.get("use_stripe_sdk", False)
    check_return_url(intent)
    if intent["payment_method"] is None:
        raise unexpected(
            state,
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either "
            "update the PaymentIntent with a payment method and then confirm it again, or confirm it again "
            "directly with a payment method or ConfirmationToken.",
        )
    method = usable(state, intent["payment_method"], customer=intent["customer"])
    away = params.get("off_session", False) is not False or params.get("error_on_requires_action", False)
    decline = paying.confirm(state, intent, method, off_session=away)
    if decline is not None:
        return decline.error(**paying.error_of(state, intent, decline))
    return intent


@get("/v1/payment_intents/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    return search(
        call, call.state.newest("payment_intent"), fields=("amount", "currency", "customer", "status")
    )


@get("/v1/payment_intents/<id>", {"client_secret": STR})
def retrieve(call: Call) -> Object:
    intent = get_intent(call.state, call.args["id"])
    check_secret(intent, call.params)
    return intent


UPDATABLE: Table = {
    "capture_method": CAPTURE,
    "payment_method": ID,
    "payment_method_options": OPTIONS,
    "payment_method_types": METHOD_TYPES,
    "receipt_email": EmptyOr(STR),
    "setup_future_usage": EmptyOr(FUTURE),
    "shipping": SHIPPING,
}


@post(
    "/v1/payment_intents/<id>",
    {
        **UPDATABLE,
        "amount": INT,
        "currency": CURRENCY,
        "customer": ID,
        "description": Str(max=1000),
        "metadata": METADATA,
        "statement_descriptor": DESCRIPTOR,
        "statement_descriptor_suffix": DESCRIPTOR,
        "transfer_group": STR,
        **unsupported(
            *EXOTIC,
            "application_fee_amount",
            "customer_account",
            "payment_method_configuration",
            "transfer_data",
        ),
    },
)
def update(call: Call) -> Object:
    """Change an intent. What was tried before is to be confirmed again where the payment itself changes."""
    state, params = call.state, call.params
    intent = get_intent(state, call.args["id"])
    _apply(state, intent, params)
    return state.put(intent)


PAYMENT = (
    "amount",
    "currency",
    "customer",
    "payment_method",
    "capture_method",
    "setup_future_usage",
    "payment_method_options",
    "payment_method_types",
)


def _apply(state: Sandbox, intent: Object, params: dict[str, Any]) -> None:
    changed = [name for name in PAYMENT if name in params]
    if changed and intent["status"] not in OPEN:
        raise unexpected(
            state,
            intent,
            f"This PaymentIntent's {changed[0]} could not be updated because it has a status of "
            f"{intent['status']}. You may only update the {changed[0]} of a PaymentIntent with one of the "
            f"following statuses: {', '.join(OPEN)}.",
        )
    if intent["_invoice"] is not None and (fixed := [each for each in changed if each in PAYMENT[:3]]):
        raise ApiError(
            f"The {fixed[0]} of a PaymentIntent that pays an invoice is the invoice's, and cannot be updated.",
            param=fixed[0],
        )
    if "amount" in params or "currency" in params:
        currency = (params["currency"] if "currency" in params else intent["currency"]).lower()
        check_amount(params["amount"] if "amount" in params else intent["amount"], currency)
        intent["currency"] = currency
    if "customer" in params:
        intent["customer"] = state.get_customer(params["customer"])["id"]
    if "payment_method" in params:
        intent["payment_method"] = usable(state, params["payment_method"], customer=intent["customer"])["id"]
    if "payment_method_types" in params:
        intent["automatic_payment_methods"] = automatic_methods(params)
    apply_card_options(intent, params)
    if "metadata" in params:
        intent["metadata"] = merge_metadata(intent["metadata"], params["metadata"])
    if "shipping" in params:
        intent["shipping"] = shipping(params["shipping"])
    for name in (
        "amount",
        "capture_method",
        "description",
        "receipt_email",
        "setup_future_usage",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_group",
    ):
        intent[name] = params.get(name, intent[name])
    if changed and intent["status"] in OPEN:
        intent["next_action"] = None
        intent["status"] = "requires_confirmation" if intent["payment_method"] else "requires_payment_method"


@post(
    "/v1/payment_intents/<id>/confirm",
    {
        **UPDATABLE,
        **CONFIRMATION,
        "amount_to_confirm": Int(min=1),
        "client_secret": STR,
        **unsupported(*EXOTIC),
    },
)
def confirm(call: Call) -> Object | ApiError:
    state, params = call.state, call.params
    intent = get_intent(state, call.args["id"])
    check_secret(intent, params)
    if intent["status"] not in OPEN:
        raise unexpected(
            state,
            intent,
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously "
            "confirmed."
            if intent["status"] == "succeeded"
            else f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}.",
        )
    if params.get("amount_to_confirm", intent["amount"]) != intent["amount"]:
        raise ApiError(
            f"The amount_to_confirm is not the amount of the PaymentIntent, which is {intent['amount']}.",
            param="amount_to_confirm",
        )
    _apply(state, intent, {name: value for name, value in params.items() if name in UPDATABLE})
    return _confirm(state, intent, params)


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
