"""Prices: flat, metered and tiered. A price's amount never changes once it exists."""

from typing import Any

from sandbox.catalog.pricing import (
    CURRENCY_OPTIONS,
    INLINE_PRICE,
    INTERVAL,
    TAX_BEHAVIOR,
    TIER,
    build_price,
    currency_options,
    set_currency_options,
)
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
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    merge_metadata,
)
from sandbox.render import ABSENT, expandable, included
from sandbox.resources import products
from sandbox.routing import Call, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object, copied

expandable("price", {"product": "product"})
included("price", "tiers", lambda state, price: copied(price.get("_tiers", ABSENT)))
included("price", "currency_options", lambda state, price: currency_options(price))


def _take_lookup_key(state: Sandbox, price: Object, key: str | None, *, transfer: bool) -> None:
    """Give `price` a lookup key. Raises ApiError where another active price holds it and may keep it."""
    for other in state.every("price") if key else ():
        if other["lookup_key"] == key and other["id"] != price["id"]:
            if not transfer:
                raise ApiError(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            holder = state.get("price", other["id"])
            before = state.render(holder)
            holder["lookup_key"] = None
            state.update(holder, before=before, event="price.updated")
    price["lookup_key"] = key


@post(
    "/v1/prices",
    {
        **INLINE_PRICE,
        "active": BOOL,
        "billing_scheme": Enum("per_unit", "tiered"),
        "currency_options": CURRENCY_OPTIONS,
        "lookup_key": Str(max=200),
        "nickname": STR,
        "product": ID,
        "product_data": Obj(
            {
                "active": BOOL,
                "id": ID,
                "metadata": NEW_METADATA,
                "name!": STR,
                "statement_descriptor": Str(max=22),
                "tax_code": STR,
                "unit_label": Str(max=12),
            }
        ),
        "recurring": Obj(
            {
                "interval!": INTERVAL,
                "interval_count": Int(min=1),
                "meter": ID,
                "usage_type": Enum("licensed", "metered"),
            }
        ),
        "tiers": ListOf(TIER),
        "tiers_mode": Enum("graduated", "volume"),
        "transfer_lookup_key": BOOL,
        "transform_quantity": Obj({"divide_by!": Int(min=1), "round!": Enum("up", "down")}),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if ("product" in params) == ("product_data" in params):
        raise ApiError(
            "You must specify either `product` or `product_data` when creating a price.", param="product"
        )
    if "product_data" in params:
        product = products.new_product(state, id=params["product_data"].pop("id", None))
        products.apply(product, params["product_data"])
        state.create(product, event="product.created")
    else:
        product = state.get("product", params["product"], param="product", status=400)
    price = build_price(state, params, product=product["id"])
    _take_lookup_key(
        state, price, params.get("lookup_key"), transfer=params.get("transfer_lookup_key", False)
    )
    return state.create(price, event="price.created")


@get("/v1/prices/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("price", call.args["id"])


@post(
    "/v1/prices/<id>",
    {
        "active": BOOL,
        "currency_options": EmptyOr(CURRENCY_OPTIONS),
        "lookup_key": EmptyOr(Str(max=200)),
        "metadata": METADATA,
        "nickname": EmptyOr(STR),
        "tax_behavior": TAX_BEHAVIOR,
        "transfer_lookup_key": BOOL,
    },
)
def update(call: Call) -> Object:
    state, params = call.state, dict(call.params)
    price = state.get("price", call.args["id"])
    before = state.render(price)
    if "metadata" in params:
        price["metadata"] = merge_metadata(price["metadata"], params["metadata"])
    if "lookup_key" in params:
        _take_lookup_key(
            state, price, params["lookup_key"], transfer=params.get("transfer_lookup_key", False)
        )
    if "currency_options" in params:
        set_currency_options(price, params["currency_options"])
    _check_update(state, price, params)
    for name in ("active", "nickname", "tax_behavior"):
        if name in params:
            price[name] = params[name]
    return state.update(price, before=before, event="price.updated")


def _check_update(state: Sandbox, price: Object, params: dict[str, Any]) -> None:
    wanted = params.get("tax_behavior", price["tax_behavior"])
    if price["tax_behavior"] not in ("unspecified", wanted):
        raise ApiError(
            "You cannot change the `tax_behavior` of a price once it is `inclusive` or `exclusive`.",
            param="tax_behavior",
        )
    product = state.find("product", price["product"])
    if params.get("active") is False and product and product["default_price"] == price["id"]:
        raise ApiError(
            "This price cannot be archived because it is the default price of its product.", param="active"
        )


@get("/v1/prices/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    return search(
        call,
        call.state.newest("price"),
        fields={
            "active": "token",
            "currency": "token",
            "lookup_key": "text",
            "product": "text",
            "type": "token",
        },
    )


@lists(
    "/v1/prices",
    {
        "active": BOOL,
        "created": RANGE,
        "currency": CURRENCY,
        "lookup_keys": ListOf(STR),
        "product": ID,
        "recurring": Obj({"interval": INTERVAL, "meter": ID, "usage_type": Enum("licensed", "metered")}),
        "type": Enum("one_time", "recurring"),
    },
)
def index(call: Call) -> Object:
    params = call.params
    keys, recurring = params.get("lookup_keys"), params.get("recurring", {})
    if keys is not None and len(keys) > 10:
        raise ApiError("You may specify at most 10 lookup_keys.", param="lookup_keys")
    return call.page(
        [
            each
            for each in call.state.newest("price")
            if (keys is None or each["lookup_key"] in keys)
            and all(
                each[name] == params[name]
                for name in ("active", "currency", "product", "type")
                if name in params
            )
            and all((each["recurring"] or {}).get(name) == value for name, value in recurring.items())
        ]
    )
