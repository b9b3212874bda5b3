"""Promotion codes: what customers type to redeem a coupon."""

from typing import Any

from sandbox.catalog.currencies import ByCurrency, check_currency
from sandbox.catalog.redeeming import is_active
from sandbox.errors import ApiError, missing_parameter
from sandbox.ids import random_text
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    METADATA,
    NEW_METADATA,
    RANGE,
    TIME,
    Enum,
    Int,
    Obj,
    Str,
    merge_metadata,
    unsupported,
)
from sandbox.render import computed, expandable, included
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

MINIMUMS = ByCurrency(table={"minimum_amount": Int(min=1)})

expandable("promotion_code", {"customer": "customer", "promotion.coupon": "coupon"})
computed("promotion_code", "active", is_active)
included("promotion_code", "restrictions.currency_options", lambda state, code: _minimums(code))


def _minimums(code: Object) -> Object:
    own = code["restrictions"]
    amounts = {own["minimum_amount_currency"]: own["minimum_amount"], **code["_minimums"]}
    return {
        currency: {"minimum_amount": amount} for currency, amount in amounts.items() if currency is not None
    }


@post(
    "/v1/promotion_codes",
    {
        "active": BOOL,
        "code": Str(max=500, pattern="[A-Za-z0-9-]+"),
        "customer": ID,
        "expires_at": TIME,
        "max_redemptions": Int(min=1),
        "metadata": NEW_METADATA,
        "promotion!": Obj({"coupon": ID, "type!": Enum("coupon")}),
        "restrictions": Obj(
            {
                "currency_options": MINIMUMS,
                "first_time_transaction": BOOL,
                "minimum_amount": Int(min=1),
                "minimum_amount_currency": CURRENCY,
            }
        ),
        **unsupported("customer_account"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "coupon" not in params["promotion"]:
        raise missing_parameter("promotion[coupon]")
    coupon = state.get("coupon", params["promotion"]["coupon"], param="promotion[coupon]", status=400)
    if "customer" in params:
        state.get_customer(params["customer"])
    restrictions = params.get("restrictions", {})
    _check_limits(state, params, coupon)
    if ("minimum_amount" in restrictions) != ("minimum_amount_currency" in restrictions):
        raise ApiError(
            "You must pass both `minimum_amount` and `minimum_amount_currency`.",
            param="restrictions[minimum_amount_currency]",
        )
    currency = restrictions.get("minimum_amount_currency")
    if currency is not None:
        currency = check_currency(currency, param="restrictions[minimum_amount_currency]")
    text = params.get("code") or random_text(8).upper()
    active = params.get("active", True)
    if active:
        _check_unique(state, text, customer=params.get("customer"))
    code = state.new(
        "promotion_code",
        code=text,
        customer=params.get("customer"),
        customer_account=None,
        expires_at=params.get("expires_at"),
        max_redemptions=params.get("max_redemptions"),
        metadata=merge_metadata({}, params.get("metadata") or {}),
        promotion={"coupon": coupon["id"], "type": "coupon"},
        restrictions={
            "first_time_transaction": restrictions.get("first_time_transaction", False),
            "minimum_amount": restrictions.get("minimum_amount"),
            "minimum_amount_currency": currency,
        },
        times_redeemed=0,
        _active=active,
        _minimums={},
    )
    _set_minimums(code, restrictions)
    return state.create(code, event="promotion_code.created")


def _check_limits(state: Sandbox, params: dict[str, Any], coupon: Object) -> None:
    expires = params.get("expires_at")
    if expires is not None and expires <= state.now():
        raise ApiError("Invalid timestamp: `expires_at` must be in the future.", param="expires_at")
    if expires is not None and coupon["redeem_by"] is not None and expires > coupon["redeem_by"]:
        raise ApiError(
            "The promotion code's `expires_at` cannot be later than its coupon's `redeem_by`.",
            param="expires_at",
        )
    most = params.get("max_redemptions")
    if most is not None and coupon["max_redemptions"] is not None and most > coupon["max_redemptions"]:
        raise ApiError(
            "The promotion code's `max_redemptions` cannot exceed its coupon's `max_redemptions`.",
            param="max_redemptions",
        )


def _check_unique(state: Sandbox, text: str, *, customer: str | None) -> None:
    # Two customers may each have a code of their own of one name; one for everyone stands alone.
    for other in state.every("promotion_code"):
        shared = other["customer"] is None or customer is None or other["customer"] == customer
        if other["code"].lower() == text.lower() and shared and is_active(state, other):
            raise ApiError(f"An active promotion code with `code: {text}` already exists.", param="code")


def _set_minimums(code: Object, restrictions: dict[str, Any]) -> None:
    for currency, option in restrictions.get("currency_options", {}).items():
        param = f"restrictions[currency_options][{currency}]"
        if code["restrictions"]["minimum_amount"] is None:
            raise ApiError("`currency_options` need a `minimum_amount` of their own.", param=param)
        if "minimum_amount" not in option:
            raise missing_parameter(f"{param}[minimum_amount]")
        code["_minimums"][currency] = option["minimum_amount"]


@get("/v1/promotion_codes/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("promotion_code", call.args["id"], noun="promotion code", param="promotion_code")


@post(
    "/v1/promotion_codes/<id>",
    {"active": BOOL, "metadata": METADATA, "restrictions": Obj({"currency_options": MINIMUMS})},
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    code = state.get("promotion_code", call.args["id"], noun="promotion code", param="promotion_code")
    before = state.render(code)
    if "metadata" in params:
        code["metadata"] = merge_metadata(code["metadata"], params["metadata"])
    if "active" in params:
        if params["active"] and not before["active"]:
            _check_unique(state, code["code"], customer=code["customer"])
        code["_active"] = params["active"]
        if params["active"] and not is_active(state, code):
            raise ApiError(
                "This promotion code cannot be activated: it, or its coupon, has expired or been used up.",
                param="active",
            )
    _set_minimums(code, params.get("restrictions", {}))
    return state.update(code, before=before, event="promotion_code.updated")


@lists(
    "/v1/promotion_codes",
    {
        "active": BOOL,
        "code": Str(max=500),
        "coupon": ID,
        "created": RANGE,
        "customer": ID,
        **unsupported("customer_account"),
    },
)
def index(call: Call) -> Object:
    state, params = call.state, call.params
    text, coupon = params.get("code"), params.get("coupon")
    return call.page(
        [
            each
            for each in state.newest("promotion_code")
            if (text is None or each["code"].lower() == text.lower())
            and (coupon is None or each["promotion"]["coupon"] == coupon)
            and ("customer" not in params or each["customer"] == params["customer"])
            and ("active" not in params or is_active(state, each) is params["active"])
        ]
    )
