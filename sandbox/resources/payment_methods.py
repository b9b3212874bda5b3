"""Payment methods: test cards and the customers they belong to."""

from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    ADDRESS,
    ID,
    INT,
    METADATA,
    NEW_METADATA,
    STR,
    Choice,
    EmptyOr,
    Enum,
    Obj,
    OneOf,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.payments.methods import (
    address,
    attach,
    checked_number,
    get_attached,
    new_card,
    of_token,
    resolve,
)
from sandbox.payments.payment_types import METHOD_TYPES, OTHER_TYPES
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.store import Object

NETWORKS = Obj({"preferred": EmptyOr(Enum("cartes_bancaires", "mastercard", "visa"))})
REDISPLAY = Enum("always", "limited", "unspecified")
BILLING_DETAILS = Obj(
    {"address": ADDRESS, "email": EmptyOr(STR), "name": EmptyOr(STR), "phone": EmptyOr(STR), "tax_id": STR}
)
FILTERS: Table = {"type": STR, "allow_redisplay": REDISPLAY}
expandable("payment_method", {"customer": "customer"})


@post(
    "/v1/payment_methods",
    {
        "type": Choice("card", *METHOD_TYPES),
        "card": OneOf(
            Obj({"token!": STR}),
            Obj({"number!": STR, "exp_month!": INT, "exp_year!": INT, "cvc": STR, "networks": NETWORKS}),
        ),
        "allow_redisplay": REDISPLAY,
        "billing_details": BILLING_DETAILS,
        "metadata": NEW_METADATA,
        **unsupported("customer", "payment_method", "radar_options", *OTHER_TYPES),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "type" not in params:
        raise missing_parameter("type")
    if "card" not in params:
        raise missing_parameter("card")
    card, details = params["card"], params.get("billing_details")
    if "token" in card:
        method = of_token(state, card["token"], param="card[token]", details=details)
    else:
        method = new_card(
            state,
            checked_number(state, card),
            exp_month=card["exp_month"],
            exp_year=card["exp_year"],
            details=details,
        )
        method["card"]["networks"]["preferred"] = card.get("networks", {}).get("preferred")
    method["metadata"] = merge_metadata({}, params.get("metadata"))
    method["allow_redisplay"] = params.get("allow_redisplay", "unspecified")
    return state.put(method)


@get("/v1/payment_methods/<id>")
def retrieve(call: Call) -> Object:
    return resolve(call.state, call.args["id"], status=404)


@post(
    "/v1/payment_methods/<id>",
    {
        "allow_redisplay": REDISPLAY,
        "billing_details": BILLING_DETAILS,
        "metadata": METADATA,
        "card": Obj({"exp_month": INT, "exp_year": INT, "networks": NETWORKS}),
        **unsupported("payto", "us_bank_account"),
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    method = state.get("payment_method", call.args["id"], noun="PaymentMethod", param="payment_method")
    if method["customer"] is None:
        raise ApiError("You must save this PaymentMethod to a customer before you can update it.")
    before = state.render(method)
    if "metadata" in params:
        method["metadata"] = merge_metadata(method["metadata"], params["metadata"])
    if "billing_details" in params:
        given = dict(params["billing_details"])
        if "address" in given:
            given["address"] = address(given["address"])
        method["billing_details"] = {**method["billing_details"], **given}
    if "allow_redisplay" in params:
        method["allow_redisplay"] = params["allow_redisplay"]
    card = dict(params.get("card", {}))
    if "networks" in card:
        card["networks"] = {**method["card"]["networks"], **card["networks"]}
    method["card"] = {**method["card"], **card}
    checked_number(state, {**method["card"], "number": method["_number"]})
    return state.update(method, before=before, event="payment_method.updated")


@post("/v1/payment_methods/<id>/attach", {"customer": ID, **unsupported("customer_account")})
def attach_to_customer(call: Call) -> Object:
    if "customer" not in call.params:
        raise missing_parameter("customer")
    customer = call.state.get_customer(call.params["customer"])
    return attach(call.state, resolve(call.state, call.args["id"], status=404), customer=customer)


@post("/v1/payment_methods/<id>/detach")
def detach(call: Call) -> Object:
    state = call.state
    method = state.get("payment_method", call.args["id"], noun="PaymentMethod", param="payment_method")
    if method["customer"] is None:
        raise ApiError(
            "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    customer = state.get("customer", method["customer"])
    method["customer"], method["_detached"] = None, True
    state.put(method)
    state.emit("payment_method.detached", method, previous={"customer": customer["id"]})
    if not customer.get("deleted") and customer["invoice_settings"]["default_payment_method"] == method["id"]:
        before = state.render(customer)
        customer["invoice_settings"]["default_payment_method"] = None
        state.update(customer, before=before, event="customer.updated")
    return method


def _of_customer(call: Call, customer: str | None) -> Object:
    params = call.params
    return call.page(
        [
            each
            for each in call.state.newest("payment_method")
            if customer is not None
            and each["customer"] == customer
            and all(each[name] == params[name] for name in ("type", "allow_redisplay") if name in params)
        ]
    )


@lists("/v1/payment_methods", {**FILTERS, "customer": ID, **unsupported("customer_account")})
def index(call: Call) -> Object:
    if "customer" in call.params:
        call.state.get_customer(call.params["customer"])
    return _of_customer(call, call.params.get("customer"))


@lists("/v1/customers/<customer>/payment_methods", FILTERS)
def index_of_customer(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    return _of_customer(call, customer["id"])


@get("/v1/customers/<customer>/payment_methods/<id>")
def retrieve_of_customer(call: Call) -> Object:
    customer = call.state.get_customer(call.args["customer"], status=404)
    return get_attached(call.state, call.args["id"], customer=customer["id"], param="payment_method")
