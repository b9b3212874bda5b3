"""Coupons: what may be taken off, for how long, and by how many."""

from decimal import Decimal
from typing import Any

from sandbox.catalog.currencies import ByCurrency, check_currency
from sandbox.catalog.redeeming import is_valid
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    CURRENCY,
    DEC,
    ID,
    METADATA,
    RANGE,
    TIME,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    merge_metadata,
)
from sandbox.render import ABSENT, computed, included
from sandbox.routing import Call, delete, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

CURRENCY_OPTIONS = ByCurrency(table={"amount_off!": Int(min=1)})

computed("coupon", "valid", is_valid)
included(
    "coupon",
    "applies_to",
    lambda state, coupon: (
        ABSENT if coupon["_applies_to"] is None else {"products": list(coupon["_applies_to"])}
    ),
)
included("coupon", "currency_options", lambda state, coupon: _currency_options(coupon))


def _currency_options(coupon: Object) -> Any:
    if coupon["currency"] is None:
        return ABSENT
    amounts = {coupon["currency"]: coupon["amount_off"], **coupon["_amounts"]}
    return {currency: {"amount_off": amount} for currency, amount in amounts.items()}


@post(
    "/v1/coupons",
    {
        "amount_off": Int(min=1),
        "applies_to": Obj({"products": ListOf(ID)}),
        "currency": CURRENCY,
        "currency_options": CURRENCY_OPTIONS,
        "duration": Enum("forever", "once", "repeating"),
        "duration_in_months": Int(min=1),
        "id": Str(max=500, pattern=r"[^\s/?#]+"),
        "max_redemptions": Int(min=1),
        "metadata": METADATA,
        "name": Str(max=40),
        "percent_off": DEC,
        "redeem_by": TIME,
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    _check(state, params)
    products = params.get("applies_to", {}).get("products") or None
    for index, each in enumerate(products or ()):
        state.get("product", each, param=f"applies_to[products][{index}]", status=400)
    percent = params.get("percent_off")
    coupon = state.new(
        "coupon",
        id=params.get("id"),
        amount_off=params.get("amount_off"),
        currency=params["currency"].lower() if "amount_off" in params else None,
        duration=params.get("duration", "once"),
        duration_in_months=params.get("duration_in_months"),
        max_redemptions=params.get("max_redemptions"),
        metadata=merge_metadata({}, params.get("metadata") or {}),
        name=params.get("name"),
        percent_off=None if percent is None else float(percent),
        redeem_by=params.get("redeem_by"),
        times_redeemed=0,
        _amounts={},
        _applies_to=products,
    )
    _set_amounts(coupon, params.get("currency_options", {}))
    return state.create(coupon, event="coupon.created")


def _check(state: Sandbox, params: dict[str, Any]) -> None:
    identifier = params.get("id")
    if identifier is not None and state.find("coupon", identifier) is not None:
        raise ApiError("Coupon already exists.", code="resource_already_exists", param="id")
    percent = params.get("percent_off")
    if (percent is None) is ("amount_off" not in params):
        raise ApiError(
            "You must pass either `percent_off` or `amount_off`, and not both.",
            param="percent_off" if percent is not None else "amount_off",
        )
    if percent is not None and not 0 < percent <= 100:
        raise ApiError("Invalid percent: must be greater than 0 and at most 100.", param="percent_off")
    if percent is not None and percent != percent.quantize(Decimal("0.01")):
        raise ApiError("Invalid percent: at most two decimal places are allowed.", param="percent_off")
    if "amount_off" in params:
        if "currency" not in params:
            raise missing_parameter("currency")
        check_currency(params["currency"])
    elif "currency_options" in params:
        raise ApiError("You can only use `currency_options` with `amount_off`.", param="currency_options")
    repeating = params.get("duration") == "repeating"
    if repeating and "duration_in_months" not in params:
        raise missing_parameter("duration_in_months")
    if not repeating and "duration_in_months" in params:
        raise ApiError(
            "You can only pass `duration_in_months` with a `duration` of `repeating`.",
            param="duration_in_months",
        )
    if "redeem_by" in params and params["redeem_by"] <= state.now():
        raise ApiError("Invalid timestamp: `redeem_by` must be in the future.", param="redeem_by")


def _set_amounts(coupon: Object, options: dict[str, Any]) -> None:
    for currency, option in options.items():
        if currency == coupon["currency"] or coupon["currency"] is None:
            raise ApiError(
                "`currency_options` are for other currencies than the coupon's own.",
                param=f"currency_options[{currency}]",
            )
        coupon["_amounts"][currency] = option["amount_off"]


@get("/v1/coupons/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("coupon", call.args["id"], param="coupon")


@post("/v1/coupons/<id>", {"currency_options": CURRENCY_OPTIONS, "metadata": METADATA, "name": Str(max=40)})
def update(call: Call) -> Object:
    state, params = call.state, call.params
    coupon = state.get("coupon", call.args["id"], param="coupon")
    before = state.render(coupon)
    if "metadata" in params:
        coupon["metadata"] = merge_metadata(coupon["metadata"], params["metadata"])
    if "name" in params:
        coupon["name"] = params["name"]
    _set_amounts(coupon, params.get("currency_options", {}))
    return state.update(coupon, before=before, event="coupon.updated")


@delete("/v1/coupons/<id>")
def remove(call: Call) -> Object:
    """Take a coupon away. Whoever redeemed it keeps the discount."""
    state = call.state
    coupon = state.get("coupon", call.args["id"], param="coupon")
    state.emit("coupon.deleted", coupon)
    state.store.remove("coupon", coupon["id"])
    return {"id": coupon["id"], "object": "coupon", "deleted": True}


@lists("/v1/coupons", {"created": RANGE})
def index(call: Call) -> Object:
    return call.page(call.state.newest("coupon"))
