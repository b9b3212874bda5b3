"""Customers, their search and their payment methods."""

from typing import Any

from sandbox.catalog.taxing import location, verdict
from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.invoices.balance import change_balance
from sandbox.params import (
    ADDRESS,
    ID,
    INT,
    METADATA,
    RANGE,
    STR,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.render import expandable, included
from sandbox.resources import payment_methods, tax_ids
from sandbox.routing import Call, delete, get, lists, post
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.leaving import part_with

SHIPPING = EmptyOr(Obj({"address!": ADDRESS, "name!": STR, "phone": STR}))
INVOICE_SETTINGS = Obj(
    {
        "default_payment_method": EmptyOr(ID),
        "footer": EmptyOr(STR),
        "custom_fields": EmptyOr(ListOf(Obj({"name!": Str(max=40), "value!": Str(max=140)}))),
        "rendering_options": EmptyOr(
            Obj(
                {
                    "amount_tax_display": EmptyOr(Enum("exclude_tax", "include_inclusive_tax")),
                    **unsupported("template"),
                }
            )
        ),
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
    "next_invoice_sequence": Int(min=1),
    "phone": EmptyOr(Str(max=20)),
    "preferred_locales": ListOf(STR),
    "shipping": SHIPPING,
    "tax_exempt": EmptyOr(Enum("exempt", "none", "reverse")),
    **unsupported("cash_balance", "source"),
}
# Stripe's own limit.
MOST_ON_A_CLOCK = 3

expandable(
    "customer",
    {
        "invoice_settings.default_payment_method": "payment_method",
        "default_source": "source",
        "test_clock": "test_helpers.test_clock",
    },
)
included(
    "customer",
    "tax_ids",
    lambda state, customer: {
        "object": "list",
        "data": [state.render(each) for each in state.newest("tax_id") if each["customer"] == customer["id"]],
        "has_more": False,
        "url": f"/v1/customers/{customer['id']}/tax_ids",
    },
)
# Sources are what cards were before payment methods: there are none, but asking for them is no error.
included("customer", "sources", lambda state, customer: empty_list(f"/v1/customers/{customer['id']}/sources"))
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


def _tax(state: Sandbox, customer: Object) -> Object:
    """Return where a customer is for automatic tax, and whether tax is collected there."""
    place = location(customer["shipping"], customer["address"])
    shipped = location(customer["shipping"], None) is not None
    status = "unrecognized_location"
    if place is not None:
        found = verdict(state, place, tax_code=None, exempt="none", tax_ids=[])
        status = "not_collecting" if found.reason == "not_collecting" else "supported"
    return {
        "automatic_tax": status,
        "ip_address": customer.get("_ip_address"),
        "location": place
        and {
            "country": place["country"],
            "source": "shipping_destination" if shipped else "billing_address",
            "state": place.get("state"),
        },
        "provider": "stripe",
    }


included("customer", "tax", _tax)


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
            if settings.get("rendering_options") is not None:
                shown = settings["rendering_options"].get("amount_tax_display")
                settings["rendering_options"] = {"amount_tax_display": shown, "template": None}
            method = settings.get("default_payment_method")
            if method is not None:
                settings["default_payment_method"] = payment_methods.get_attached(
                    state, method, customer=customer["id"], param="invoice_settings[default_payment_method]"
                )["id"]
            customer["invoice_settings"] = {**customer["invoice_settings"], **settings}
        elif name == "tax_exempt":
            customer["tax_exempt"] = value or "none"
        elif name == "tax":
            if "ip_address" in value:
                customer["_ip_address"] = value["ip_address"]
        elif name in ("business_name", "individual_name") and value is None:
            # Shown only where there is one.
            customer.pop(name, None)
        else:
            customer[name] = value


def _settle_balance(state: Sandbox, customer: Object, balance: int | None, *, type: str) -> None:
    """Set the balance, with the transaction that explains it. The caller tells of the customer."""
    if balance is not None and balance != customer["balance"]:
        change_balance(state, customer, amount=balance - customer["balance"], type=type, tell=False)


def _check_place(customer: Object, tax: dict[str, Any]) -> None:
    place = location(customer["shipping"], customer["address"])
    if tax.get("validate_location") == "immediately" and place is None:
        raise ApiError(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
            param="address",
        )


def _check_clock(state: Sandbox, clock: str) -> None:
    state.get("test_helpers.test_clock", clock, noun="test_clock", param="test_clock", status=400)
    on_it = sum(1 for each in state.every("customer") if each.get("test_clock") == clock)
    if on_it >= MOST_ON_A_CLOCK:
        raise ApiError(
            f"You can have at most {MOST_ON_A_CLOCK} customers on one test clock.", param="test_clock"
        )


def _check_prefix(state: Sandbox, customer: Object, prefix: str | None) -> None:
    if prefix is not None and any(
        each["id"] != customer["id"] and each.get("invoice_prefix") == prefix
        for each in state.every("customer")
    ):
        raise ApiError(f"The invoice prefix {prefix} is in use already.", param="invoice_prefix")


@post(
    "/v1/customers",
    {
        **WRITABLE,
        "payment_method": ID,
        "tax": Obj({"ip_address": EmptyOr(STR), "validate_location": Enum("deferred", "immediately")}),
        "tax_id_data": ListOf(Obj(tax_ids.DATA)),
        "test_clock": ID,
    },
)
def create(call: Call) -> Object:
    state, params = call.state, dict(call.params)
    _email_checked(params)
    if "test_clock" in params:
        _check_clock(state, params["test_clock"])
    method_name = params.pop("payment_method", None)
    settings = params.pop("invoice_settings", None)
    ids, balance = params.pop("tax_id_data", []), params.pop("balance", None)
    customer = new_customer(state)
    _check_prefix(state, customer, params.get("invoice_prefix"))
    _apply(state, customer, params)
    _check_place(customer, params.get("tax", {}))
    state.put(customer)
    _settle_balance(state, customer, balance, type="initial")
    if method_name is not None:
        method = payment_methods.attach(state, payment_methods.resolve(state, method_name), customer=customer)
        # Test names such as pm_card_visa stand for a new card each time; here both mean the same one.
        if settings and settings.get("default_payment_method") == method_name:
            settings["default_payment_method"] = method["id"]
    if settings is not None:
        _apply(state, customer, {"invoice_settings": settings})
    state.create(customer, event="customer.created")
    for index, each in enumerate(ids):
        tax_ids.new_tax_id(state, **each, customer=customer["id"], param=f"tax_id_data[{index}][value]")
    return customer


@get("/v1/customers/search", {"query!": STR, "limit": INT, "page": STR})
def find(call: Call) -> Object:
    live = [each for each in call.state.newest("customer") if not each.get("deleted")]
    return search(call, live, fields={"created": "number", "email": "text", "name": "text", "phone": "text"})


@get("/v1/customers/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("customer", call.args["id"])


@post(
    "/v1/customers/<id>",
    {
        **WRITABLE,
        "tax": Obj(
            {"ip_address": EmptyOr(STR), "validate_location": Enum("auto", "deferred", "immediately")}
        ),
        **unsupported(
            "bank_account",
            "card",
            "default_alipay_account",
            "default_bank_account",
            "default_card",
            "default_source",
        ),
    },
)
def update(call: Call) -> Object:
    state = call.state
    customer = state.get_customer(call.args["id"], param="id", status=404)
    params = dict(call.params)
    _email_checked(params)
    before = state.render(customer)
    balance = params.pop("balance", None)
    _check_prefix(state, customer, params.get("invoice_prefix"))
    _apply(state, customer, params)
    _check_place(customer, params.get("tax", {}))
    _settle_balance(state, customer, balance, type="adjustment")
    return state.update(customer, before=before, event="customer.updated")


@delete("/v1/customers/<id>")
def remove(call: Call) -> Object:
    state = call.state
    customer = state.get_customer(call.args["id"], param="id", status=404)
    part_with(state, customer)
    state.emit("customer.deleted", customer)
    stub = {"id": customer["id"], "object": "customer", "deleted": True}
    state.put(stub)
    return stub


def _no_discount(call: Call) -> ApiError:
    # Since coupons left the customer's parameters, only subscriptions, items and invoices have discounts.
    customer = call.state.get_customer(call.args["id"], status=404)
    message = f"No active discount for customer: {customer['id']}"
    return ApiError(message, status=404, code="resource_missing")


@get("/v1/customers/<id>/discount")
def discount(call: Call) -> Object:
    raise _no_discount(call)


@delete("/v1/customers/<id>/discount")
def remove_discount(call: Call) -> Object:
    raise _no_discount(call)


@lists("/v1/customers/<id>/sources", {"object": STR})
def sources(call: Call) -> Object:
    call.state.get_customer(call.args["id"], status=404)
    return call.page([])


@lists("/v1/customers", {"created": RANGE, "email": Str(max=512), "test_clock": ID})
def index(call: Call) -> Object:
    """Return customers. Those on a test clock are listed only when that clock is asked for."""
    email, clock = call.params.get("email"), call.params.get("test_clock")
    return call.page(
        [
            each
            for each in call.state.newest("customer")
            if not each.get("deleted")
            and (email is None or each["email"] == email)
            and each["test_clock"] == clock
        ]
    )
