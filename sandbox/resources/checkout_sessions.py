"""Checkout sessions over the API."""

from typing import Any

from sandbox.amounts import line_amount
from sandbox.checkout import EXPIRES_AFTER, expire
from sandbox.checkout_session import new_session
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    CURRENCY,
    ID,
    METADATA,
    RANGE,
    STR,
    TIME,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    merge_metadata,
    unsupported,
)
from sandbox.pricing import INLINE_PRICE, build_price, get_price
from sandbox.render import expandable, included, inlined
from sandbox.resources import products
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import is_metered

LINE = Obj(
    {
        "price": ID,
        "price_data": Obj(
            {
                **INLINE_PRICE,
                "product": ID,
                "product_data": Obj(
                    {
                        "name!": STR,
                        "description": Str(max=40000),
                        "images": ListOf(STR),
                        "metadata": METADATA,
                        "tax_code": STR,
                        "unit_label": Str(max=12),
                    }
                ),
            }
        ),
        "quantity": Int(min=0, max=999_999),
        "metadata": METADATA,
        **unsupported("adjustable_quantity", "dynamic_tax_rates", "tax_rates"),
    }
)
SUBSCRIPTION_DATA = Obj(
    {
        "billing_mode": Obj(
            {
                "type!": Enum("flexible"),
                "flexible": Obj({"proration_discounts": Enum("included", "itemized")}),
            }
        ),
        "description": Str(max=500),
        "metadata": METADATA,
        "trial_end": TIME,
        "trial_period_days": Int(min=1, max=730),
        "trial_settings": Obj(
            {"end_behavior!": Obj({"missing_payment_method!": Enum("cancel", "create_invoice", "pause")})}
        ),
        **unsupported(
            "application_fee_percent",
            "billing_cycle_anchor",
            "default_tax_rates",
            "invoice_settings",
            "on_behalf_of",
            "pending_invoice_item_interval",
            "proration_behavior",
            "transfer_data",
        ),
    }
)
ONLY_OFF = Obj({"enabled!": Enum("false")})

expandable(
    "checkout.session",
    {
        "payment_link": "payment_link",
        "customer": "customer",
        "invoice": "invoice",
        "payment_intent": "payment_intent",
        "setup_intent": "setup_intent",
        "subscription": "subscription",
    },
)
inlined("item", {"price": "price"})
included("item", "discounts", lambda state, item: [])
included("item", "taxes", lambda state, item: [])
included("checkout.session", "total_details.breakdown", lambda state, session: {"discounts": [], "taxes": []})


def _line_items(state: Sandbox, session: Object) -> Object:
    return {
        "object": "list",
        "data": [state.render(each) for each in session["_lines"]],
        "has_more": False,
        "url": f"/v1/checkout/sessions/{session['id']}/line_items",
    }


included("checkout.session", "line_items", _line_items)


@post(
    "/v1/checkout/sessions",
    {
        "adaptive_pricing": ONLY_OFF,
        "allow_promotion_codes": Enum("false"),
        "automatic_tax": ONLY_OFF,
        "billing_address_collection": Enum("auto"),
        "cancel_url": STR,
        "client_reference_id": Str(max=200),
        "currency": CURRENCY,
        "customer": ID,
        "customer_email": Str(max=512),
        "customer_update": Obj({name: Enum("auto", "never") for name in ("address", "name", "shipping")}),
        "expires_at": TIME,
        "line_items": ListOf(LINE),
        "locale": STR,
        "metadata": METADATA,
        "mode": Enum("payment", "setup", "subscription"),
        "payment_method_collection": Enum("always", "if_required"),
        "payment_method_types": ListOf(Enum("card")),
        "phone_number_collection": ONLY_OFF,
        "saved_payment_method_options": Obj({"payment_method_save": Enum("disabled", "enabled")}),
        "subscription_data": SUBSCRIPTION_DATA,
        "success_url": STR,
        "tax_id_collection": ONLY_OFF,
        "ui_mode": Enum("hosted_page"),
        **unsupported(
            "after_expiration",
            "branding_settings",
            "consent_collection",
            "custom_fields",
            "custom_text",
            "customer_account",
            "customer_creation",
            "discounts",
            "excluded_payment_method_types",
            "integration_identifier",
            "invoice_creation",
            "managed_payments",
            "name_collection",
            "optional_items",
            "origin_context",
            "payment_intent_data",
            "payment_method_configuration",
            "payment_method_data",
            "payment_method_options",
            "permissions",
            "redirect_on_completion",
            "return_url",
            "setup_intent_data",
            "shipping_address_collection",
            "shipping_options",
            "submit_type",
            "wallet_options",
        ),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if params.get("mode") is None:
        raise missing_parameter("mode")
    if params["mode"] != "subscription":
        raise ApiError(
            f"The sandbox does not support mode={params['mode']} (Stripe does).",
            code="sandbox_unsupported",
            param="mode",
        )
    for name in ("line_items", "success_url"):
        if not params.get(name):
            raise missing_parameter(name)
    if "customer" in params and "customer_email" in params:
        raise ApiError("You may only specify one of these parameters: customer, customer_email.")
    customer = state.get_customer(params["customer"]) if "customer" in params else None
    for name in ("success_url", "cancel_url"):
        if name in params and not params[name].startswith(("http://", "https://")):
            raise ApiError(f"Not a valid URL: {params[name]}", code="url_invalid", param=name)
    expires_at = params.get("expires_at", state.now() + EXPIRES_AFTER)
    if not state.now() + 1800 <= expires_at + 60 or expires_at > state.now() + EXPIRES_AFTER:
        raise ApiError(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout "
            "Session creation.",
            param="expires_at",
        )
    lines = [_line(state, given, index=index) for index, given in enumerate(params["line_items"])]
    session = new_session(state, params, lines=lines, customer=customer, expires_at=expires_at)
    state.agenda.set("checkout.session.expire", session["id"], expires_at)
    return state.create(session)


def _line(state: Sandbox, given: dict[str, Any], *, index: int) -> Object:
    where = f"line_items[{index}]"
    if ("price" in given) == ("price_data" in given):
        raise ApiError("You must specify either `price` or `price_data` for each line item.", param=where)
    price = (
        get_price(state, given["price"], param=f"{where}[price]")
        if "price" in given
        else _inline_price(state, given["price_data"], where=f"{where}[price_data]")
    )
    if price["type"] != "recurring":
        raise ApiError(
            "The sandbox takes recurring prices only in `subscription` mode (Stripe adds one-time ones to "
            "the first invoice).",
            code="sandbox_unsupported",
            param=where,
        )
    if is_metered(price):
        if "quantity" in given:
            raise ApiError(
                f"You cannot specify `quantity` for a price with usage_type=metered: {where}[quantity].",
                param=f"{where}[quantity]",
            )
    elif "quantity" not in given:
        raise ApiError(
            "Quantity is required. Add `quantity` to `" + where + "`",
            code="parameter_missing",
            param=f"{where}[quantity]",
        )
    quantity: int | None = given.get("quantity")
    amount = 0 if is_metered(price) else line_amount(price, quantity or 0)
    product = state.get("product", price["product"])
    return {
        "id": state.new_id("item"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": product["name"],
        "metadata": merge_metadata({}, given.get("metadata") or {}),
        "price": price["id"],
        "quantity": quantity,
    }


def _inline_price(state: Sandbox, given: dict[str, Any], *, where: str) -> Object:
    if ("product" in given) == ("product_data" in given):
        raise ApiError("You must specify either `product` or `product_data`.", param=where)
    if "product" in given:
        product = state.get("product", given["product"], param=f"{where}[product]", status=400)
    else:
        product = products.new_product(state)
        products.apply(product, given["product_data"])
        state.create(product, event="product.created")
    # Such a price serves this sale only, so it is born inactive.
    return state.create(
        build_price(state, {**given, "active": False}, product=product["id"]), event="price.created"
    )


@get("/v1/checkout/sessions/<id>")
def retrieve(call: Call) -> Object:
    return _get(call)


def _get(call: Call) -> Object:
    return call.state.get("checkout.session", call.args["id"], noun="checkout.session", param="session")


@post(
    "/v1/checkout/sessions/<id>",
    {"metadata": METADATA, **unsupported("collected_information", "shipping_options")},
)
def update(call: Call) -> Object:
    session = _get(call)
    if "metadata" in call.params:
        session["metadata"] = merge_metadata(session["metadata"], call.params["metadata"])
    return call.state.put(session)


@post("/v1/checkout/sessions/<id>/expire")
def expire_now(call: Call) -> Object:
    session = _get(call)
    if session["status"] != "open":
        raise ApiError(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has '
            f"a status of {session['status']}."
        )
    expire(call.state, session)
    return session


@lists("/v1/checkout/sessions/<id>/line_items")
def line_items(call: Call) -> Object:
    return call.page(_get(call)["_lines"])


@lists(
    "/v1/checkout/sessions",
    {
        "created": RANGE,
        "customer": ID,
        "customer_details": Obj({"email!": STR}),
        "payment_intent": ID,
        "status": Enum("complete", "expired", "open"),
        "subscription": ID,
        **unsupported("customer_account", "payment_link"),
    },
)
def index(call: Call) -> Object:
    params = call.params
    email = params.get("customer_details", {}).get("email")
    return call.page(
        [
            each
            for each in call.state.newest("checkout.session")
            if all(
                each[name] == params[name]
                for name in ("customer", "payment_intent", "status", "subscription")
                if name in params
            )
            and (email is None or (each["customer_details"] or {}).get("email") == email)
        ]
    )
