"""Products."""

from typing import Any

from sandbox.errors import ApiError, missing_resource
from sandbox.params import (
    BOOL,
    ID,
    METADATA,
    RANGE,
    STR,
    EmptyOr,
    ListOf,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.pricing import INLINE_PRICE, build_price
from sandbox.render import expandable
from sandbox.routing import Call, delete, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

WRITABLE: Table = {
    "active": BOOL,
    "description": EmptyOr(Str(max=40000)),
    "images": EmptyOr(ListOf(STR)),
    "marketing_features": EmptyOr(ListOf(Obj({"name!": STR}))),
    "metadata": METADATA,
    "name": STR,
    "shippable": BOOL,
    "statement_descriptor": Str(max=22),
    "tax_code": EmptyOr(STR),
    "unit_label": EmptyOr(Str(max=12)),
    "url": EmptyOr(STR),
    **unsupported("package_dimensions"),
}

expandable("product", {"default_price": "price", "tax_code": "tax_code"})


def new_product(state: Sandbox, **fields: Any) -> Object:
    return state.new(
        "product",
        **{
            "active": True,
            "default_price": None,
            "description": None,
            "images": [],
            "marketing_features": [],
            "metadata": {},
            "name": None,
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "type": "service",
            "unit_label": None,
            "updated": state.now(),
            "url": None,
            **fields,
        },
    )


def apply(product: Object, params: dict[str, Any]) -> None:
    for name, value in params.items():
        if name == "metadata":
            product["metadata"] = merge_metadata(product["metadata"], value)
        elif name in ("images", "marketing_features"):
            product[name] = value or []
        else:
            product[name] = value


@post(
    "/v1/products",
    {
        **WRITABLE,
        "name!": STR,
        "id": Str(max=5000, pattern=r"[\w.-]+"),
        "default_price_data": Obj(INLINE_PRICE),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, dict(call.params)
    identifier = params.pop("id", None)
    if identifier is not None and state.find("product", identifier) is not None:
        raise ApiError(f"Product already exists: {identifier}.", code="resource_already_exists", param="id")
    default_price = params.pop("default_price_data", None)
    product = new_product(state, id=identifier)
    apply(product, params)
    state.put(product)
    if default_price is not None:
        price = build_price(state, default_price, product=product["id"])
        product["default_price"] = price["id"]
        state.create(product, event="product.created")
        state.create(price, event="price.created")
        return product
    return state.create(product, event="product.created")


@get("/v1/products/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("product", call.args["id"])


@get("/v1/products/<id>/features", {"limit": STR, "starting_after": STR, "ending_before": STR})
def features(call: Call) -> Object:
    call.state.get("product", call.args["id"])
    return {"object": "list", "data": [], "has_more": False, "url": call.path}


@post("/v1/products/<id>", {**WRITABLE, "default_price": EmptyOr(ID)})
def update(call: Call) -> Object:
    state = call.state
    product = state.get("product", call.args["id"])
    price = call.params.get("default_price")
    if price is not None and (state.find("price", price) or {}).get("product") != product["id"]:
        raise missing_resource("price", price, param="default_price", status=400)
    before = state.render(product)
    apply(product, call.params)
    product["updated"] = state.now()
    return state.update(product, before=before, event="product.updated")


@delete("/v1/products/<id>")
def remove(call: Call) -> Object:
    state = call.state
    product = state.get("product", call.args["id"])
    if any(each["product"] == product["id"] for each in state.every("price")):
        raise ApiError("This product cannot be deleted because it has one or more user-created prices.")
    state.emit("product.deleted", product)
    state.store.remove("product", product["id"])
    return {"id": product["id"], "object": "product", "deleted": True}


@lists("/v1/products", {"active": BOOL, "created": RANGE, "ids": ListOf(ID), "shippable": BOOL, "url": STR})
def index(call: Call) -> Object:
    params = call.params
    ids = params.get("ids")
    return call.page(
        [
            each
            for each in call.state.newest("product")
            if (ids is None or each["id"] in ids)
            and all(each[name] == params[name] for name in ("active", "shippable", "url") if name in params)
        ]
    )
