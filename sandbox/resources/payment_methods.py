"""Payment methods: test cards and the customers they belong to."""

import hashlib
from typing import Any

from sandbox.cards import DECLINES, brand_of, is_card_number, number_of
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.params import (
    ADDRESS,
    ID,
    METADATA,
    STR,
    EmptyOr,
    Enum,
    Int,
    Obj,
    OneOf,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.render import expandable
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

REDISPLAY = Enum("always", "limited", "unspecified")
BILLING_DETAILS = Obj(
    {"address": ADDRESS, "email": EmptyOr(STR), "name": EmptyOr(STR), "phone": EmptyOr(STR), "tax_id": STR}
)
FILTERS: Table = {"type": STR, "allow_redisplay": REDISPLAY}
ADDRESS_PARTS = ("city", "country", "line1", "line2", "postal_code", "state")

expandable("payment_method", {"customer": "customer"})


def address(given: dict[str, Any] | None) -> Object:
    return {part: (given or {}).get(part) for part in ADDRESS_PARTS}


def billing_details(given: dict[str, Any] | None = None) -> Object:
    given = given or {}
    return {
        "address": address(given.get("address")),
        "email": given.get("email"),
        "name": given.get("name"),
        "phone": given.get("phone"),
        "tax_id": given.get("tax_id"),
    }


def new_card(
    state: Sandbox,
    number: str,
    *,
    exp_month: int = 12,
    exp_year: int | None = None,
    details: dict[str, Any] | None = None,
) -> Object:
    """Store and return a card payment method that belongs to nobody yet."""
    brand = brand_of(number)
    return state.put(
        state.new(
            "payment_method",
            allow_redisplay="unspecified",
            billing_details=billing_details(details),
            card={
                "brand": brand,
                "checks": {
                    "address_line1_check": None,
                    "address_postal_code_check": None,
                    "cvc_check": "pass",
                },
                "country": "US",
                "display_brand": brand,
                "exp_month": exp_month,
                "exp_year": exp_year or state.clock.today().year + 3,
                # One number is one fingerprint within an account, which is how a card is recognised again.
                "fingerprint": hashlib.sha256(f"{state.account_id}{number}".encode()).hexdigest()[:16],
                "funding": "debit" if number == "4000056655665556" else "credit",
                "generated_from": None,
                "last4": number[-4:],
                "networks": {"available": [brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            customer=None,
            customer_account=None,
            metadata={},
            type="card",
            _number=number,
        )
    )


def resolve(state: Sandbox, identifier: str, *, param: str = "payment_method", status: int = 400) -> Object:
    """Return a payment method by id, or a new card for a test name. Raises ApiError (`resource_missing`)."""
    found = state.find("payment_method", identifier)
    if found is not None:
        return found
    number = number_of(identifier) if identifier.startswith("pm_card_") else None
    if number is None:
        raise missing_resource("PaymentMethod", identifier, param=param, status=status)
    return new_card(state, number)


def get_attached(state: Sandbox, identifier: str, *, customer: str, param: str) -> Object:
    """Return a customer's payment method. Raises ApiError (400) for one that is another's or nobody's."""
    method = state.find("payment_method", identifier)
    if method is None and number_of(identifier) is None:
        raise missing_resource("PaymentMethod", identifier, param=param, status=400)
    if method is None or method["customer"] != customer:
        raise ApiError(
            f"The customer does not have a payment method with the ID {identifier}. The payment "
            "method must be "
            "attached to the customer.",
            code="resource_missing",
            param=param,
        )
    return method


def attach(state: Sandbox, method: Object, *, customer: Object) -> Object:
    """Attach a card. Raises ApiError: 402 for a card that declines, 400 for one that is another's."""
    if method["customer"] == customer["id"]:
        return method
    if method["customer"] is not None or method.get("_detached"):
        raise ApiError(
            "This PaymentMethod was previously used with a PaymentIntent without Customer "
            "attachment, shared with "
            "a connected account without Customer attachment, or was detached from a Customer. It "
            "may not be used "
            "again. To use a PaymentMethod multiple times, you must attach it to a Customer first."
            if method.get("_detached")
            else "The payment method you provided has already been attached to a customer.",
            code=None if method.get("_detached") else "payment_method_unexpected_state",
        )
    decline = DECLINES.get(method["_number"])
    if decline is not None:
        raise decline.error()
    method["customer"] = customer["id"]
    state.put(method)
    state.emit("payment_method.attached", method)
    return method


@post(
    "/v1/payment_methods",
    {
        "type": Enum("card"),
        "card": OneOf(
            Obj({"token!": STR}),
            Obj({"number!": STR, "exp_month!": Int(min=1, max=12), "exp_year!": Int(), "cvc": STR}),
        ),
        "allow_redisplay": REDISPLAY,
        "billing_details": BILLING_DETAILS,
        "metadata": METADATA,
        **unsupported("customer", "payment_method", "radar_options"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "type" not in params:
        raise missing_parameter("type")
    if "card" not in params:
        raise missing_parameter("card")
    card = params["card"]
    number = number_of(card["token"]) if "token" in card else card["number"].replace(" ", "")
    if number is None:
        raise missing_resource("token", card["token"], param="card[token]", status=400)
    if not is_card_number(number):
        raise ApiError(
            "Your card number is incorrect.",
            status=402,
            type="card_error",
            code="incorrect_number",
            param="number",
        )
    method = new_card(
        state,
        number,
        exp_month=card.get("exp_month", 12),
        exp_year=card.get("exp_year"),
        details=params.get("billing_details"),
    )
    method["metadata"] = merge_metadata({}, params.get("metadata") or {})
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
        "card": Obj({"exp_month": Int(min=1, max=12), "exp_year": Int()}),
        **unsupported("us_bank_account"),
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
    method["card"] = {**method["card"], **params.get("card", {})}
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
