"""Customers, their search and their payment methods."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.params import (
    ADDRESS,
    ID,
    INT,
    METADATA,
    RANGE,
    STR,
    EmptyOr,
    Enum,
    ListOf,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.render import expandable, included
from sandbox.resources import payment_methods
from sandbox.routing import Call, delete, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import ENDED, end_subscription

SHIPPING = EmptyOr(Obj({"address!": ADDRESS, "name!": STR, "phone": STR}))
INVOICE_SETTINGS = Obj(
    {
        "default_payment_method": EmptyOr(ID),
        "footer": EmptyOr(STR),
        "custom_fields": EmptyOr(ListOf(Obj({"name!": Str(max=40), "value!": Str(max=140)}))),
        **unsupported("rendering_options"),
    }
)
WRITABLE: Table = {
    "address": ADDRESS,
    "balance": INT,
    "business_name": EmptyOr(Str(max=150)),
    "description": EmptyOr(STR),
    "email": EmptyOr(Str(max=512)),
    "individual_name": EmptyOr(Str(max=150)),
    "invoice_prefix": Str(max=12, pattern="[A-Z0-9]{3,12}"),
    "invoice_settings": INVOICE_SETTINGS,
    "metadata": METADATA,
    "name": EmptyOr(Str(max=256)),
    "next_invoice_sequence": INT,
    "phone": EmptyOr(Str(max=20)),
    "preferred_locales": ListOf(STR),
    "shipping": SHIPPING,
    "tax_exempt": EmptyOr(Enum("exempt", "none", "reverse")),
    **unsupported("cash_balance", "source", "tax"),
}

expandable(
    "customer",
    {
        "invoice_settings.default_payment_method": "payment_method",
        "default_source": "source",
        "test_clock": "test_helpers.test_clock",
    },
)
# These three are empty lists or unset here, but asking for them is not an error.
included("customer", "tax_ids", lambda state, customer: empty_list(f"/v1/customers/{customer['id']}/tax_ids"))
included("customer", "sources", lambda state, customer: empty_list(f"/v1/customers/{customer['id']}/sources"))
included(
    "customer",
    "tax",
    lambda state, customer: {
        "automatic_tax": "unrecognized_location",
        "ip_address": None,
        "location": None,
        "provider": "stripe",
    },
)
included(
    "customer",
    "subscriptions",
    lambda state, customer: {
        "object": "list",
        "data": [
            state.render(each)
            for each in state.newest("subscription")
            if each["customer"] == customer["id"] and each["status"] not in ("canceled", "incomplete_expired")
        ],
        "has_more": False,
        "url": f"/v1/customers/{customer['id']}/subscriptions",
    },
)


def empty_list(url: str) -> Object:
    return {"object": "list", "data": [], "has_more": False, "url": url}


def new_customer(state: Sandbox, **fields: Any) -> Object:
    """Return a customer not yet stored, with Stripe's defaults."""
    return state.new(
        "customer",
        **{
            "address": None,
            "balance": 0,
            "currency": None,
            "customer_account": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "discount": None,
            "email": None,
            "invoice_prefix": random_text(8).upper(),
            "invoice_settings": {
                "custom_fields": None,
                "default_payment_method": None,
                "footer": None,
                "rendering_options": None,
            },
            "metadata": {},
            "name": None,
            "next_invoice_sequence": 1,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
            "test_clock": None,
            **fields,
        },
    )


def _email_checked(params: dict[str, Any]) -> None:
    email = params.get("email")
    if email and ("@" not in email or " " in email):
        raise ApiError(f"Invalid email address: {email}", code="email_invalid", param="email")


def _apply(state: Sandbox, customer: Object, params: dict[str, Any]) -> None:
    for name, value in params.items():
        if name == "metadata":
            customer["metadata"] = merge_metadata(customer["metadata"], value)
        elif name == "address":
            customer["address"] = None if value is None else payment_methods.address(value)
        elif name == "invoice_settings":
            settings = dict(value)
            method = settings.get("default_payment_method")
            if method is not None:
                settings["default_payment_method"] = payment_methods.get_attached(
                    state, method, customer=customer["id"], param="invoice_settings[default_payment_method]"
                )["id"]
            customer["invoice_settings"] = {**customer["invoice_settings"], **settings}
        elif name == "tax_exempt":
            customer["tax_exempt"] = value or "none"
        else:
            customer[name] = value


@post("/v1/customers", {**WRITABLE, "payment_method": ID, **unsupported("tax_id_data", "test_clock")})
def create(call: Call) -> Object:
    state, params = call.state, dict(call.params)
    _email_checked(params)
    method_name = params.pop("payment_method", None)
    settings = params.pop("invoice_settings", None)
    customer = new_customer(state)
    _apply(state, customer, params)
    state.put(customer)
    if method_name is not None:
        method = payment_methods.attach(state, payment_methods.resolve(state, method_name), customer=customer)
        # Test names such as pm_card_visa stand for a new card each time; here both mean the same one.
        if settings and settings.get("default_payment_method") == method_name:
            settings["default_payment_method"] = method["id"]
    if settings is not None:
        _apply(state, customer, {"invoice_settings": settings})
    return state.create(customer, event="customer.created")


@get("/v1/customers/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    live = [each for each in call.state.newest("customer") if not each.get("deleted")]
    return search(call, live, fields=("email", "name", "phone"))


@get("/v1/customers/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("customer", call.args["id"])


@post("/v1/customers/<id>", {**WRITABLE, **unsupported("default_source")})
def update(call: Call) -> Object:
    state = call.state
    customer = state.get_customer(call.args["id"], param="id", status=404)
    _email_checked(call.params)
    before = state.render(customer)
    _apply(state, customer, call.params)
    return state.update(customer, before=before, event="customer.updated")


@delete("/v1/customers/<id>")
def remove(call: Call) -> Object:
    state = call.state
    customer = state.get_customer(call.args["id"], param="id", status=404)
    for subscription in list(state.every("subscription")):
        if subscription["customer"] == customer["id"] and subscription["status"] not in ENDED:
            end_subscription(
                state, state.get("subscription", subscription["id"]), reason="cancellation_requested"
            )
    state.emit("customer.deleted", customer)
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    state.put(stub)
    return stub


@lists("/v1/customers", {"created": RANGE, "email": Str(max=512), **unsupported("test_clock")})
def index(call: Call) -> Object:
    email = call.params.get("email")
    return call.page(
        [
            each
            for each in call.state.newest("customer")
            if not each.get("deleted") and (email is None or each["email"] == email)
        ]
    )
