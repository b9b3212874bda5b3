"""Subscriptions over the API."""

from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.currencies import check_customer_currency
from sandbox.catalog.taxing import shows_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    RANGE,
    STR,
    TIME,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    unsupported,
)
from sandbox.render import computed, expandable
from sandbox.routing import Call, delete, get, lists, post, within
from sandbox.search import search
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.asking import backdated, read_wanted, redeem_for_items, trial_end_of
from sandbox.subscriptions.cancelling import cancel_now
from sandbox.subscriptions.changing import (
    change,
    changes_anything,
    check_pending,
    keep_end_in_step,
)
from sandbox.subscriptions.default_card import ask_for_card
from sandbox.subscriptions.resuming import resume
from sandbox.subscriptions.subscribing import (
    ENDED,
    begin,
    build,
    first_invoice,
    items_of,
    paying_method,
    settle,
    tell,
)
from sandbox.subscriptions.subscription_params import (
    BEHAVIOURS,
    CANCELLATION,
    CHANGED_ITEM,
    FLEXIBLE,
    NEW_ITEM,
    PRORATION,
    SHARED,
    STATUSES,
)
from sandbox.subscriptions.subscription_settings import add_invoice_items, apply_settings, pause

expandable(
    "subscription",
    {
        "discounts": "discount",
        "default_source": "source",
        "application": "application",
        "on_behalf_of": "account",
        "customer": "customer",
        "latest_invoice": "invoice",
        "default_payment_method": "payment_method",
        "pending_setup_intent": "setup_intent",
        "schedule": "subscription_schedule",
        "test_clock": "test_helpers.test_clock",
    },
)


def _shown_items(state: Sandbox, subscription: Object) -> Object:
    items = items_of(state, subscription)
    return {
        "object": "list",
        "data": [state.render(each) for each in items],
        "has_more": False,
        "url": f"/v1/subscription_items?subscription={subscription['id']}",
    }


computed("subscription", "items", _shown_items)
shows_tax_rates("subscription", "default_tax_rates")


@post(
    "/v1/subscriptions",
    {
        **SHARED,
        "backdate_start_date": TIME,
        "billing_cycle_anchor": TIME,
        "billing_mode": FLEXIBLE,
        "currency": CURRENCY,
        "customer": ID,
        "items": ListOf(NEW_ITEM),
        "payment_behavior": Enum(*BEHAVIOURS),
        "trial_period_days": Int(min=1, max=730),
        **unsupported("billing_cycle_anchor_config", "customer_account"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    for name in ("customer", "items"):
        if not params.get(name):
            raise missing_parameter(name)
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise ApiError(
            "You cannot create a subscription with payment_behavior=pending_if_incomplete.",
            param="payment_behavior",
        )
    customer = state.get_customer(params["customer"])
    wanted = [read_wanted(state, each, where=f"items[{index}]") for index, each in enumerate(params["items"])]
    currency = (params.get("currency") or wanted[0].price["currency"]).lower()
    check_customer_currency(state, customer, currency)
    subscription = build(
        state,
        customer=customer,
        wanted=wanted,
        trial_end=trial_end_of(state, params),
        billing_cycle_anchor=params.get("billing_cycle_anchor"),
        currency=currency,
        **backdated(state, params),
    )
    apply_settings(state, subscription, params, customer=customer)
    redeem_for_items(state, subscription, wanted)
    add_invoice_items(state, subscription, params, customer=customer)
    return _begin(state, subscription, customer, params)


def _begin(state: Sandbox, subscription: Object, customer: Object, params: dict[str, Any]) -> Object:
    behaviour = params.get("payment_behavior", "allow_incomplete")
    sent = subscription["collection_method"] == "send_invoice"
    begin(state, subscription)
    invoice = first_invoice(
        state,
        subscription,
        customer=customer,
        proration_behavior=params.get("proration_behavior", "create_prorations"),
    )
    method = paying_method(state, subscription, customer=customer)
    due = invoice["amount_due"] if invoice else 0
    if sent:
        _trust(state, subscription, invoice)
    elif behaviour == "default_incomplete":
        settle(state, subscription, invoice, None)
        if not due and method is None:
            ask_for_card(state, subscription, customer=customer["id"])
    else:
        if due and method is None:
            raise ApiError(
                "This customer has no attached payment source or default payment method. Please "
                "consider adding a "
                "default payment method. For more information, visit "
                "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
                code="resource_missing",
            )
        decline = settle(state, subscription, invoice, method, off_session=params.get("off_session", False))
        if behaviour == "error_if_incomplete" and invoice is not None and invoice["status"] == "open":
            if decline is not None:
                raise decline.error()
            raise ApiError(
                "This payment requires additional user action before it can be completed successfully.",
                status=402,
                type="card_error",
                code="subscription_payment_intent_requires_action",
            )
    return subscription


def _trust(state: Sandbox, subscription: Object, invoice: Object | None) -> None:
    """A subscription whose invoices are sent is active before the first is paid."""
    if subscription["status"] == "incomplete":
        subscription["status"] = "active"
        state.agenda.drop("subscription.incomplete_expire", identifier=subscription["id"])
    if invoice is not None and invoice["status"] == "open":
        state.emit("invoice.sent", invoice)
    tell(state, subscription)


@get("/v1/subscriptions/search", {"query!": STR, "limit": Int(), "page": STR})
def find(call: Call) -> Object:
    return search(call, call.state.newest("subscription"), fields=("canceled_at", "created", "status"))


@get("/v1/subscriptions/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("subscription", call.args["id"])


@post(
    "/v1/subscriptions/<id>",
    {
        **SHARED,
        **CANCELLATION,
        "billing_cycle_anchor": Enum("now", "unchanged"),
        "items": ListOf(CHANGED_ITEM),
        "pause_collection": EmptyOr(
            Obj({"behavior!": Enum("keep_as_draft", "mark_uncollectible", "void"), "resumes_at": TIME})
        ),
        "payment_behavior": Enum(*BEHAVIOURS),
        "proration_date": TIME,
    },
)
def update(call: Call) -> "Object | ApiError":
    state, params = call.state, call.params
    subscription = state.get("subscription", call.args["id"])
    _check_updatable(subscription, params)
    if params.get("payment_behavior") == "pending_if_incomplete":
        check_pending(params)
    customer = state.get("customer", subscription["customer"])
    apply_settings(state, subscription, params, customer=customer)
    if "cancellation_details" in params:
        subscription["cancellation_details"] = {
            **subscription["cancellation_details"],
            **params["cancellation_details"],
        }
    if "pause_collection" in params:
        pause(state, subscription, params["pause_collection"])
    if subscription["status"] not in ENDED:
        keep_end_in_step(state, subscription)
        add_invoice_items(state, subscription, params, customer=customer)
    if changes_anything(params):
        change(state, subscription, params)
    tell(state, subscription)
    return subscription


def _check_updatable(subscription: Object, params: dict[str, Any]) -> None:
    if subscription["status"] in ENDED and set(params) - {"metadata", "cancellation_details"}:
        raise ApiError("A canceled subscription can only update its cancellation_details and metadata.")
    if subscription["status"] == "incomplete" and changes_anything(params):
        raise ApiError(
            "This subscription's first invoice has not been paid: until it is, its items cannot be changed.",
            param="items",
        )
    managed = subscription["schedule"] is not None
    if managed and (
        changes_anything(params) or params.get("cancel_at_period_end") or params.get("cancel_at")
    ):
        raise ApiError(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
            "updating any plan or cancellation behavior directly is not allowed. Please update the schedule "
            "instead.",
        )


@delete("/v1/subscriptions/<id>/discount")
def remove_discount(call: Call) -> Object:
    subscription = call.state.get("subscription", call.args["id"])
    if not subscription["discounts"]:
        raise ApiError(
            f"No active discount for subscription: {subscription['id']}",
            status=404,
            code="resource_missing",
        )
    first = call.state.get("discount", subscription["discounts"][0])
    discounting.remove_discounts(call.state, subscription)
    tell(call.state, subscription)
    gone = {name: value for name, value in call.state.render(first).items() if name != "end"}
    return {**gone, "deleted": True}


@delete("/v1/subscriptions/<id>", {**CANCELLATION, "invoice_now": BOOL, "prorate": BOOL})
def cancel(call: Call) -> Object:
    state, params = call.state, call.params
    subscription = state.find("subscription", call.args["id"])
    if subscription is None or subscription["status"] in ENDED:
        raise ApiError(
            f"No such subscription: '{call.args['id']}'", status=404, code="resource_missing", param="id"
        )
    details = params.get("cancellation_details", {})
    cancel_now(
        state,
        subscription,
        invoice_now=params.get("invoice_now", False),
        prorate=params.get("prorate", False),
        feedback=details.get("feedback"),
        comment=details.get("comment"),
    )
    return subscription


@post(
    "/v1/subscriptions/<id>/resume",
    {
        "billing_cycle_anchor": Enum("now", "unchanged"),
        "proration_behavior": PRORATION,
        "proration_date": TIME,
    },
)
def resume_paused(call: Call) -> Object:
    subscription = call.state.get("subscription", call.args["id"])
    resume(
        call.state,
        subscription,
        anchor=call.params.get("billing_cycle_anchor", "now"),
        proration_behavior=call.params.get("proration_behavior", "create_prorations"),
    )
    return subscription


@lists(
    "/v1/subscriptions",
    {
        "collection_method": Enum("charge_automatically", "send_invoice"),
        "created": RANGE,
        "current_period_end": RANGE,
        "current_period_start": RANGE,
        "customer": ID,
        "price": ID,
        "status": Enum(*STATUSES, "all", "ended"),
        "test_clock": ID,
        "automatic_tax": Obj({"enabled!": BOOL}),
        **unsupported("customer_account"),
    },
)
def index(call: Call) -> Object:
    return call.page([each for each in call.state.newest("subscription") if _listed(call, each)])


def _listed(call: Call, subscription: Object) -> bool:
    params = call.params
    items = items_of(call.state, subscription)
    same = ("customer", "collection_method", "test_clock")
    periods = ("current_period_start", "current_period_end")
    return all(
        (
            # What is on a test clock shows only where the clock or its customer is asked for.
            not subscription["test_clock"] or bool({"test_clock", "customer"} & set(params)),
            _has_status(subscription, params.get("status")),
            all(subscription[name] == params[name] for name in same if name in params),
            "automatic_tax" not in params
            or subscription["automatic_tax"]["enabled"] == params["automatic_tax"]["enabled"],
            "price" not in params or params["price"] in [each["price"] for each in items],
            all(
                any(within(each[name], params[name]) for each in items) for name in periods if name in params
            ),
        )
    )


def _has_status(subscription: Object, wanted: str | None) -> bool:
    # Without a status, Stripe leaves out canceled ones and shows all others.
    if wanted is None:
        return bool(subscription["status"] != "canceled")
    if wanted == "ended":
        return subscription["status"] in ENDED
    return wanted in ("all", subscription["status"])
