"""Making prices: the amounts and tiers that fit together. Used by prices, products and Checkout."""

import decimal
from typing import Any

from sandbox.catalog.amounts import amount_in, check_chargeable, decimal_text, whole_minor
from sandbox.catalog.currencies import ByCurrency, check_currency
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.params import (
    CURRENCY,
    DEC,
    INT,
    NEW_METADATA,
    Enum,
    Int,
    ListOf,
    Obj,
    OneOf,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.state import Sandbox
from sandbox.store import Object, copied

INTERVAL = Enum("day", "week", "month", "year")
TAX_BEHAVIOR = Enum("exclusive", "inclusive", "unspecified")
TIER = Obj(
    {
        "flat_amount": INT,
        "flat_amount_decimal": DEC,
        "unit_amount": INT,
        "unit_amount_decimal": DEC,
        "up_to!": OneOf(Enum("inf"), Int(min=1)),
    }
)
# What Checkout, subscriptions and products take to make a price in passing.
INLINE_PRICE: Table = {
    "currency!": CURRENCY,
    "metadata": NEW_METADATA,
    "recurring": Obj({"interval!": INTERVAL, "interval_count": Int(min=1)}),
    "tax_behavior": TAX_BEHAVIOR,
    "unit_amount": Int(min=0),
    "unit_amount_decimal": DEC,
    **unsupported("currency_options", "custom_unit_amount"),
}
CURRENCY_OPTIONS = ByCurrency(
    table={
        "tax_behavior": TAX_BEHAVIOR,
        "tiers": ListOf(TIER),
        "unit_amount": Int(min=0),
        "unit_amount_decimal": DEC,
        **unsupported("custom_unit_amount"),
    }
)
LONGEST = {"day": 1095, "week": 156, "month": 36, "year": 3}


def build_price(state: Sandbox, params: dict[str, Any], *, product: str) -> Object:
    """Return a price not yet stored. Raises ApiError for amounts or tiers that do not fit together."""
    recurring = params.get("recurring")
    scheme = params.get("billing_scheme", "per_unit")
    if scheme == "tiered" and "tiers_mode" not in params:
        raise missing_parameter("tiers_mode")
    if scheme != "tiered" and ("tiers" in params or "tiers_mode" in params):
        raise ApiError("You must specify `billing_scheme=tiered` to use `tiers`.", param="tiers")
    if scheme == "tiered" and "transform_quantity" in params:
        raise ApiError("`transform_quantity` cannot be combined with `tiers`.", param="transform_quantity")
    price = state.new(
        "price",
        active=params.get("active", True),
        billing_scheme=scheme,
        currency=check_currency(params["currency"]),
        custom_unit_amount=None,
        lookup_key=None,
        metadata=merge_metadata({}, params.get("metadata") or {}),
        nickname=params.get("nickname"),
        product=product,
        recurring=None if recurring is None else _recurring(state, recurring),
        tax_behavior=params.get("tax_behavior", "unspecified"),
        tiers_mode=params.get("tiers_mode"),
        transform_quantity=params.get("transform_quantity"),
        type="one_time" if recurring is None else "recurring",
        unit_amount=None,
        unit_amount_decimal=None,
        _currency_options={},
    )
    amounts = _amounts(price, params, currency=price["currency"])
    if "tiers" in amounts:
        price["_tiers"] = amounts.pop("tiers")
    price.update(amounts)
    set_currency_options(price, params.get("currency_options") or {})
    return price


def set_currency_options(price: Object, options: dict[str, Any] | None) -> None:
    """Set what a price costs in other currencies; None, for "", takes all of them away.

    Raises ApiError for amounts that do not fit the price's scheme.
    """
    if options is None:
        price["_currency_options"] = {}
        return
    for currency, option in options.items():
        param = f"currency_options[{currency}]"
        if currency == price["currency"]:
            raise ApiError(
                f"The price's own currency, {currency}, cannot be among its `currency_options`.", param=param
            )
        if "tiers" in option and price["billing_scheme"] != "tiered":
            raise ApiError(
                "You must specify `billing_scheme=tiered` to use `tiers`.", param=f"{param}[tiers]"
            )
        price["_currency_options"][currency] = {
            "custom_unit_amount": None,
            "tax_behavior": option.get("tax_behavior", "unspecified"),
            **_amounts(price, option, currency=currency, prefix=param),
        }


def currency_options(price: Object) -> Object:
    """Return what a price costs in each of its currencies, its own among them."""
    own = {
        name: price[name]
        for name in ("custom_unit_amount", "tax_behavior", "unit_amount", "unit_amount_decimal")
    }
    if price["billing_scheme"] == "tiered":
        own["tiers"] = price["_tiers"]
    return copied({price["currency"]: own, **price["_currency_options"]})


def subscribable_price(price: Object, currency: str, *, param: str) -> Object:
    """Return a price with its amounts in a currency. Raises ApiError (400) where it is not sold in it."""
    sold = amount_in(price, currency)
    if sold is None:
        raise ApiError(
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected "
            f"currency: `{currency}`.",
            param=param,
        )
    return sold


def _amounts(price: Object, given: dict[str, Any], *, currency: str, prefix: str = "") -> Object:
    """Return unit_amount and unit_amount_decimal, or for a tiered price those of None and its tiers."""

    def named(name: str) -> str:
        return f"{prefix}[{name}]" if prefix else name

    if price["billing_scheme"] == "tiered":
        if "unit_amount" in given or "unit_amount_decimal" in given:
            raise ApiError(
                "You cannot specify `unit_amount` with `billing_scheme=tiered`.", param=named("unit_amount")
            )
        tiers = _tiers(given.get("tiers"), currency=currency, param=named("tiers"))
        return {"tiers": tiers, "unit_amount": None, "unit_amount_decimal": None}
    amounts = _amount(given, "unit_amount", currency=currency, param=named("unit_amount"))
    if amounts is None:
        raise ApiError(
            "You must specify either `unit_amount`, `unit_amount_decimal`, or `custom_unit_amount` "
            "when `billing_scheme=per_unit`.",
            code="parameter_missing",
            param=named("unit_amount"),
        )
    return {"unit_amount": amounts[0], "unit_amount_decimal": amounts[1]}


def _recurring(state: Sandbox, given: dict[str, Any]) -> Object:
    count = given.get("interval_count", 1)
    usage = given.get("usage_type", "licensed")
    meter = given.get("meter")
    if count > LONGEST[given["interval"]]:
        raise ApiError(
            "The billing interval of a price cannot exceed three years.", param="recurring[interval_count]"
        )
    if usage == "metered" and meter is None:
        raise ApiError(
            "Prices with usage_type=metered must be backed by a meter. Pass the meter's ID in "
            "recurring[meter].",
            param="recurring[meter]",
        )
    if meter is not None:
        if usage != "metered":
            raise ApiError("You may only use a meter with usage_type=metered.", param="recurring[meter]")
        found = state.get("billing.meter", meter, noun="meter", param="recurring[meter]", status=400)
        if found["status"] != "active":
            raise ApiError(f"The meter {meter} is inactive.", param="recurring[meter]")
    return {
        "interval": given["interval"],
        "interval_count": count,
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage,
    }


def _amount(params: dict[str, Any], name: str, *, currency: str, param: str) -> tuple[int | None, str] | None:
    """Return (whole minor units or None, decimal text) from `name` or `name_decimal`, None for neither."""
    exact = params.get(f"{name}_decimal")
    if exact is not None and name in params:
        raise ApiError(f"You may only specify one of these parameters: {name}, {name}_decimal.", param=param)
    if exact is None:
        if name not in params:
            return None
        exact = decimal.Decimal(params[name])
    if exact < 0:
        raise ApiError("Invalid non-negative integer", code="parameter_invalid_integer", param=param)
    whole = whole_minor(exact)
    if whole is not None:
        check_chargeable(whole, currency, param=param)
    return whole, decimal_text(exact)


def _tiers(tiers: list[dict[str, Any]] | None, *, currency: str, param: str) -> list[Object]:
    if not tiers:
        raise missing_parameter(param)
    bounds = [tier["up_to"] for tier in tiers]
    if bounds[-1] != "inf" or "inf" in bounds[:-1] or bounds[:-1] != sorted(set(bounds[:-1])):
        raise ApiError("Tiers must be in ascending order of `up_to`, the last being `inf`.", param=param)
    made = []
    for index, tier in enumerate(tiers):
        inner = f"{param}[{index}]"
        flat = _amount(tier, "flat_amount", currency=currency, param=f"{inner}[flat_amount]")
        unit = _amount(tier, "unit_amount", currency=currency, param=f"{inner}[unit_amount]")
        if flat is None and unit is None:
            raise ApiError("Each tier needs a `unit_amount` or a `flat_amount`.", param=inner)
        made.append(
            {
                "flat_amount": flat[0] if flat else None,
                "flat_amount_decimal": flat[1] if flat else None,
                "unit_amount": unit[0] if unit else None,
                "unit_amount_decimal": unit[1] if unit else None,
                "up_to": None if tier["up_to"] == "inf" else tier["up_to"],
            }
        )
    return made


def get_price(state: Sandbox, identifier: str, *, param: str) -> Object:
    """Return a price that may still be sold. Raises ApiError (400) for none or an inactive one."""
    price = state.find("price", identifier)
    if price is None:
        raise missing_resource("price", identifier, param=param, status=400)
    if not price["active"]:
        raise ApiError("The price specified is inactive. This field only accepts active prices.", param=param)
    return price
