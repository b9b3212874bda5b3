"""Products."""

from typing import Any

from sandbox.catalog.pricing import CURRENCY_OPTIONS, INLINE_PRICE, build_price
from sandbox.errors import ApiError, missing_resource
from sandbox.params import (
    BOOL,
    DEC,
    ID,
    INT,
    METADATA,
    NEW_METADATA,
    RANGE,
    STR,
    EmptyOr,
    ListOf,
    Obj,
    Str,
    Table,
    merge_metadata,
)
from sandbox.render import expandable
from sandbox.resources.tax_codes import check_tax_code
from sandbox.routing import Call, delete, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object

WRITABLE: Table = {
    "active": BOOL,
    "description": EmptyOr(STR),
    "images": EmptyOr(ListOf(STR)),
    "marketing_features": EmptyOr(ListOf(Obj({"name!": Str(max=80)}))),
    "metadata": METADATA,
    "name": STR,
    "package_dimensions": EmptyOr(Obj({f"{side}!": DEC for side in ("height", "length", "weight", "width")})),
    "shippable": BOOL,
    "statement_descriptor": Str(max=22),
    "tax_code": EmptyOr(STR),
    "unit_label": EmptyOr(Str(max=12)),
    "url": EmptyOr(STR),
}
INLINE_DEFAULT_PRICE: Table = {**INLINE_PRICE, "currency_options": CURRENCY_OPTIONS}
MOST_IMAGES, MOST_FEATURES = 8, 15

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
    """Set what is given. Raises ApiError for a tax code that cannot be one, or too many images."""
    if params.get("tax_code"):
        check_tax_code(params["tax_code"], param="tax_code")
    for name, value in params.items():
        if name == "metadata":
            product["metadata"] = merge_metadata(product["metadata"], value)
        elif name in ("images", "marketing_features"):
            most = MOST_IMAGES if name == "images" else MOST_FEATURES
            if value and len(value) > most:
                raise ApiError(f"You may specify at most {most} {name}.", param=name)
            product[name] = value or []
        elif name == "package_dimensions":
            product[name] = value and {side: float(size) for side, size in value.items()}
        else:
            product[name] = value


@post(
    "/v1/products",
    {
        **WRITABLE,
        "metadata": NEW_METADATA,
        "name!": STR,
        "id": Str(max=5000, pattern=r"[\w.-]+"),
        "default_price_data": Obj(INLINE_DEFAULT_PRICE),
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


@get("/v1/products/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    return search(
        call,
        call.state.newest("product"),
        fields={
            "active": "token",
            "description": "text",
            "name": "text",
            "shippable": "token",
            "url": "text",
        },
    )


@get("/v1/products/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("product", call.args["id"])


@lists("/v1/products/<id>/features")
def features(call: Call) -> Object:
    """Return no features: the sandbox has no entitlements."""
    call.state.get("product", call.args["id"])
    return call.page([])


@post("/v1/products/<id>", {**WRITABLE, "default_price": ID})
def update(call: Call) -> Object:
    state = call.state
    product = state.get("product", call.args["id"])
    _check_default_price(state, product, call.params.get("default_price"))
    before = state.render(product)
    apply(product, call.params)
    product["updated"] = state.now()
    return state.update(product, before=before, event="product.updated")


def _check_default_price(state: Sandbox, product: Object, identifier: str | None) -> None:
    price = state.find("price", identifier) if identifier else None
    if identifier and (price is None or price["product"] != product["id"]):
        raise missing_resource("price", identifier, param="default_price", status=400)
    if price is not None and not price["active"]:
        raise ApiError("The default price must be active.", param="default_price")


@delete("/v1/products/<id>")
def remove(call: Call) -> Object:
    state = call.state
    product = state.get("product", call.args["id"])
    if any(each["product"] == product["id"] for each in state.every("price")):
        raise ApiError(
            "This product cannot be deleted because it has one or more user-created prices.", param="id"
        )
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
