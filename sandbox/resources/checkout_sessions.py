"""Checkout sessions over the API."""

from typing import Any

from sandbox.catalog.currencies import check_customer_currency
from sandbox.catalog.redeeming import redeemable
from sandbox.catalog.taxing import location, require_automatic_tax
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.totals import SMALLEST_CHARGE
from sandbox.params import ID, METADATA, RANGE, STR, Enum, Obj, merge_metadata, unsupported
from sandbox.render import expandable, included, inlined
from sandbox.routing import Call, get, lists, post
from sandbox.selling.checkout import EXPIRES_AFTER, expire
from sandbox.selling.checkout_lines import read_lines
from sandbox.selling.checkout_params import CREATE
from sandbox.selling.checkout_session import check_mode, check_trial, check_urls, new_session
from sandbox.selling.selling import Buyer, note, reckon
from sandbox.state import Sandbox
from sandbox.store import Object

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
included("item", "discounts", lambda state, item: _line_of(state, item)["_discounts"])
included("item", "taxes", lambda state, item: _line_of(state, item)["_taxes"])
included("checkout.session", "total_details.breakdown", lambda state, session: session["_breakdown"])


def _line_of(state: Sandbox, item: Object) -> Object:
    """Return the stored line of a shown one: lines live inside their sessions."""
    return next(
        line
        for session in state.every("checkout.session")
        for line in session["_lines"]
        if line["id"] == item["id"]
    )


def _line_items(state: Sandbox, session: Object) -> Object:
    return {
        "object": "list",
        "data": [state.render(each) for each in session["_lines"]],
        "has_more": False,
        "url": f"/v1/checkout/sessions/{session['id']}/line_items",
    }


included("checkout.session", "line_items", _line_items)


@post("/v1/checkout/sessions", CREATE)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if params.get("mode") is None:
        raise missing_parameter("mode")
    mode = params["mode"]
    if mode != "setup" and not params.get("line_items"):
        raise missing_parameter("line_items")
    check_urls(params)
    check_mode(params)
    if "customer" in params and "customer_email" in params:
        raise ApiError("You may only specify one of these parameters: customer, customer_email.")
    customer = state.get_customer(params["customer"]) if "customer" in params else None
    expires_at = params.get("expires_at", state.now() + EXPIRES_AFTER)
    if not state.now() + 1800 <= expires_at + 60 or expires_at > state.now() + EXPIRES_AFTER:
        raise ApiError(
            "The `expires_at` timestamp must be at least 30 minutes and at most 24 hours from Checkout "
            "Session creation.",
            param="expires_at",
        )
    if mode == "subscription":
        check_trial(state, params.get("subscription_data", {}))
    _check_customer(state, params, customer)
    lines = (
        read_lines(state, params["line_items"], mode=mode, currency=params.get("currency"))
        if mode != "setup"
        else []
    )
    if mode == "subscription" and customer is not None:
        check_customer_currency(state, customer, lines[0]["currency"], param="line_items")
    session = new_session(state, params, lines=lines, customer=customer, expires_at=expires_at)
    _check_discounts(state, params, session)
    # Found out now, as Stripe does, so that the page cannot fail on it later.
    found = reckon(state, session, Buyer(email=(session["customer_details"] or {}).get("email")))
    if mode == "payment" and 0 < found.total < SMALLEST_CHARGE.get(session["currency"], 1):
        raise ApiError(
            "The Checkout Session's total amount due must add up to at least "
            f"{SMALLEST_CHARGE[session['currency']]} {session['currency']} (in its smallest unit).",
            code="amount_too_small",
        )
    note(session, found)
    state.agenda.set("checkout.session.expire", session["id"], expires_at)
    return state.create(session)


def _check_customer(state: Sandbox, params: dict[str, Any], customer: Object | None) -> None:
    """Raise ApiError (400) for what needs a customer, or the right to change the one there is."""
    may = params.get("customer_update", {})
    if customer is None:
        if "customer_update" in params:
            raise ApiError("`customer_update` can only be used with `customer`.", param="customer_update")
    elif params.get("customer_creation"):
        raise ApiError(
            "You may only specify one of these parameters: customer, customer_creation.",
            param="customer_creation",
        )
    if params.get("automatic_tax", {}).get("enabled"):
        require_automatic_tax(state, None)
        known = customer is None or location(customer.get("shipping"), customer["address"]) is not None
        if not known and may.get("address") != "auto" and may.get("shipping") != "auto":
            raise ApiError(
                "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid "
                "address to the Customer or set either `customer_update[address]` to 'auto' or "
                "`customer_update[shipping]` to 'auto' to save the address entered in Checkout to the "
                "Customer.",
                code="customer_tax_location_invalid",
            )
    if params.get("tax_id_collection", {}).get("enabled") and customer is not None:
        if may.get("name") != "auto":
            raise ApiError(
                "Tax ID collection requires updating business name on the customer. To enable tax ID "
                "collection for an existing customer, please set `customer_update[name]` to `auto`."
            )
        if customer["address"] is None and may.get("address") != "auto":
            raise ApiError(
                "We could not find a valid address on the provided customer. To enable tax ID collection, "
                "please set `customer_update[address]` to `auto`."
            )


def _check_discounts(state: Sandbox, params: dict[str, Any], session: Object) -> None:
    given = params.get("discounts", [])
    if given and "allow_promotion_codes" in params:
        raise ApiError(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
            param="discounts",
        )
    if len(given) > 1:
        raise ApiError("You can apply at most one discount to a Checkout Session.", param="discounts")
    for index, each in enumerate(given):
        if len(each) != 1:
            raise ApiError(
                "You must specify exactly one of these parameters: coupon, promotion_code.",
                param=f"discounts[{index}]",
            )
        redeemable(
            state,
            each,
            customer=session["customer"],
            subtotal=sum(line["amount_subtotal"] for line in session["_lines"]),
            currency=session["currency"],
            param=f"discounts[{index}]",
        )


@get("/v1/checkout/sessions/<id>")
def retrieve(call: Call) -> Object:
    return _get(call)


def _get(call: Call) -> Object:
    return call.state.get("checkout.session", call.args["id"], noun="checkout.session", param="session")


@post(
    "/v1/checkout/sessions/<id>",
    {"metadata": METADATA, **unsupported("collected_information", "line_items", "shipping_options")},
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
