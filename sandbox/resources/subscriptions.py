"""Subscriptions over the API."""

from typing import Any

from sandbox.errors import ApiError, missing_parameter
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    METADATA,
    RANGE,
    STR,
    TIME,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    OneOf,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.pricing import get_price
from sandbox.render import computed, expandable
from sandbox.resources.payment_methods import get_attached
from sandbox.resources.subscription_changes import change_items
from sandbox.routing import Call, delete, get, lists, post, within
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import (
    ENDED,
    Wanted,
    build,
    end_subscription,
    first_invoice,
    is_metered,
    items_of,
    paying_method,
    settle,
)

FEEDBACK = Enum(
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
CANCELLATION: Table = {"cancellation_details": Obj({"comment": EmptyOr(STR), "feedback": EmptyOr(FEEDBACK)})}
STATUSES = (
    "active",
    "canceled",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
QUANTITY = Int(min=0, max=999_999)
NOT_YET = unsupported(
    "add_invoice_items",
    "application_fee_percent",
    "billing_schedules",
    "billing_thresholds",
    "cancel_at",
    "days_until_due",
    "default_source",
    "default_tax_rates",
    "discounts",
    "invoice_settings",
    "on_behalf_of",
    "pending_invoice_item_interval",
    "transfer_data",
    "trial_from_plan",
)
SHARED: Table = {
    **NOT_YET,
    "automatic_tax": Obj({"enabled!": Enum("false")}),
    "cancel_at_period_end": BOOL,
    "collection_method": Enum("charge_automatically"),
    "default_payment_method": EmptyOr(ID),
    "description": EmptyOr(Str(max=500)),
    "metadata": METADATA,
    "off_session": BOOL,
    "payment_settings": Obj(
        {
            "save_default_payment_method": Enum("off", "on_subscription"),
            "payment_method_types": EmptyOr(ListOf(Enum("card"))),
            **unsupported("payment_method_options"),
        }
    ),
    "proration_behavior": Enum("always_invoice", "create_prorations", "none"),
    "trial_end": OneOf(Enum("now"), TIME),
    "trial_settings": Obj(
        {"end_behavior!": Obj({"missing_payment_method!": Enum("cancel", "create_invoice", "pause")})}
    ),
}

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
        "total_count": len(items),
        "url": f"/v1/subscription_items?subscription={subscription['id']}",
    }


computed("subscription", "items", _shown_items)


def _trial_end(call: Call) -> int | None:
    days, end = call.params.get("trial_period_days"), call.params.get("trial_end")
    if days is not None and end is not None:
        raise ApiError("You may only specify one of these parameters: trial_end, trial_period_days.")
    if days is not None:
        return call.state.now() + int(days) * 86400
    if end is None or end == "now":
        return None
    if end <= call.state.now():
        raise ApiError(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    return int(end)


@post(
    "/v1/subscriptions",
    {
        **SHARED,
        "billing_mode": Obj(
            {
                "type!": Enum("flexible"),
                "flexible": Obj({"proration_discounts": Enum("included", "itemized")}),
            }
        ),
        "currency": CURRENCY,
        "customer": ID,
        "items": ListOf(
            Obj(
                {
                    "metadata": METADATA,
                    "price": ID,
                    "quantity": QUANTITY,
                    **unsupported("billing_thresholds", "discounts", "price_data", "tax_rates"),
                }
            )
        ),
        "payment_behavior": Enum("allow_incomplete", "default_incomplete", "error_if_incomplete"),
        "trial_period_days": Int(min=1, max=730),
        **unsupported(
            "backdate_start_date", "billing_cycle_anchor", "billing_cycle_anchor_config", "customer_account"
        ),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    for name in ("customer", "items"):
        if not params.get(name):
            raise missing_parameter(name)
    customer = state.get_customer(params["customer"])
    wanted = []
    for index, each in enumerate(params["items"]):
        if "price" not in each:
            raise missing_parameter(f"items[{index}][price]")
        price = get_price(state, each["price"], param=f"items[{index}][price]")
        quantity = each.get("quantity", None if is_metered(price) else 1)
        wanted.append(Wanted(price, quantity, merge_metadata({}, each.get("metadata") or {})))
    fields: dict[str, Any] = {
        "metadata": merge_metadata({}, params.get("metadata") or {}),
        "cancel_at_period_end": params.get("cancel_at_period_end", False),
        "description": params.get("description"),
    }
    if params.get("default_payment_method"):
        fields["default_payment_method"] = get_attached(
            state, params["default_payment_method"], customer=customer["id"], param="default_payment_method"
        )["id"]
    subscription = build(state, customer=customer, wanted=wanted, trial_end=_trial_end(call), **fields)
    subscription["payment_settings"].update(params.get("payment_settings", {}))
    subscription.update({"trial_settings": params["trial_settings"]} if "trial_settings" in params else {})
    _mark_scheduled_end(state, subscription)
    return _begin(state, subscription, customer, behaviour=params.get("payment_behavior", "allow_incomplete"))


def _begin(state: Sandbox, subscription: Object, customer: Object, *, behaviour: str) -> Object:
    invoice = first_invoice(state, subscription, customer=customer)
    method = paying_method(state, subscription, customer=customer)
    due = invoice["amount_due"] if invoice else 0
    if behaviour == "default_incomplete":
        settle(state, subscription, invoice, None)
    else:
        if due and method is None:
            raise ApiError(
                "This customer has no attached payment source or default payment method. Please "
                "consider adding a "
                "default payment method. For more information, visit "
                "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
                code="resource_missing",
            )
        decline = settle(state, subscription, invoice, method)
        if decline is not None and behaviour == "error_if_incomplete":
            raise decline.error()
    state.emit("customer.subscription.created", subscription)
    return subscription


def _mark_scheduled_end(state: Sandbox, subscription: Object) -> None:
    """Keep the fields that announce an end in step with cancel_at_period_end."""
    if subscription["cancel_at_period_end"]:
        subscription["cancel_at"] = max(each["current_period_end"] for each in items_of(state, subscription))
        subscription["canceled_at"] = subscription["canceled_at"] or state.now()
        subscription["cancellation_details"]["reason"] = "cancellation_requested"
    else:
        subscription.update(
            cancel_at=None,
            canceled_at=None,
            cancellation_details={"comment": None, "feedback": None, "reason": None},
        )


@get("/v1/subscriptions/<id>")
def retrieve(call: Call) -> Object:
    return call.state.get("subscription", call.args["id"])


@post(
    "/v1/subscriptions/<id>",
    {
        **SHARED,
        **CANCELLATION,
        "items": ListOf(
            Obj(
                {
                    "id": ID,
                    "metadata": METADATA,
                    "price": ID,
                    "quantity": QUANTITY,
                    "deleted": BOOL,
                    **unsupported(
                        "billing_thresholds", "clear_usage", "discounts", "price_data", "tax_rates"
                    ),
                }
            )
        ),
        "payment_behavior": Enum("allow_incomplete", "error_if_incomplete"),
        "proration_date": TIME,
        **unsupported("billing_cycle_anchor", "pause_collection", "trial_end"),
    },
)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    subscription = state.get("subscription", call.args["id"])
    if subscription["status"] in ENDED:
        allowed = {"metadata", "cancellation_details", "expand"}
        if set(params) - allowed:
            raise ApiError("A canceled subscription can only update its cancellation_details and metadata.")
    before = state.render(subscription)
    if "metadata" in params:
        subscription["metadata"] = merge_metadata(subscription["metadata"], params["metadata"])
    if "description" in params:
        subscription["description"] = params["description"]
    if "default_payment_method" in params:
        chosen = params["default_payment_method"]
        subscription["default_payment_method"] = (
            chosen
            and get_attached(
                state, chosen, customer=subscription["customer"], param="default_payment_method"
            )["id"]
        )
    subscription["payment_settings"] = {
        **subscription["payment_settings"],
        **params.get("payment_settings", {}),
    }
    subscription["trial_settings"] = params.get("trial_settings", subscription["trial_settings"])
    if (
        params.get("cancel_at_period_end", subscription["cancel_at_period_end"])
        != subscription["cancel_at_period_end"]
    ):
        subscription["cancel_at_period_end"] = params["cancel_at_period_end"]
        _mark_scheduled_end(state, subscription)
    if "cancellation_details" in params:
        subscription["cancellation_details"] = {
            **subscription["cancellation_details"],
            **params["cancellation_details"],
        }
    state.put(subscription)
    decline = change_items(state, subscription, params) if params.get("items") else None
    if decline is not None and params.get("payment_behavior") == "error_if_incomplete":
        raise decline.error()
    if decline is not None and subscription["status"] == "active":
        subscription["status"] = "past_due"
    return state.update(subscription, before=before, event="customer.subscription.updated")


@delete("/v1/subscriptions/<id>", {**CANCELLATION, "invoice_now": BOOL, "prorate": BOOL})
def cancel(call: Call) -> Object:
    state, params = call.state, call.params
    subscription = state.find("subscription", call.args["id"])
    if subscription is None or subscription["status"] in ENDED:
        raise ApiError(
            f"No such subscription: '{call.args['id']}'", status=404, code="resource_missing", param="id"
        )
    for name in ("invoice_now", "prorate"):
        if params.get(name):
            raise ApiError(
                f"The sandbox does not support {name}=true on cancel (Stripe does).",
                code="sandbox_unsupported",
                param=name,
            )
    details = params.get("cancellation_details", {})
    end_subscription(
        state,
        subscription,
        reason="cancellation_requested",
        feedback=details.get("feedback"),
        comment=details.get("comment"),
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
        **unsupported("automatic_tax", "customer_account", "test_clock"),
    },
)
def index(call: Call) -> Object:
    return call.page([each for each in call.state.newest("subscription") if _listed(call, each)])


def _listed(call: Call, subscription: Object) -> bool:
    params = call.params
    status = params.get("status")
    if status is None:
        # Without a status, Stripe leaves out canceled ones and shows all others.
        if subscription["status"] == "canceled":
            return False
    elif status == "ended":
        if subscription["status"] not in ENDED:
            return False
    elif status not in ("all", subscription["status"]):
        return False
    if "customer" in params and subscription["customer"] != params["customer"]:
        return False
    items = items_of(call.state, subscription)
    if "price" in params and params["price"] not in [each["price"] for each in items]:
        return False
    return all(
        any(within(each[name], params[name]) for each in items)
        for name in ("current_period_start", "current_period_end")
        if name in params
    )
