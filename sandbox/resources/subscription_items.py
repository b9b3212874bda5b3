"""Subscription items: each change here is a change of its subscription."""

import re
from typing import Any

from sandbox.catalog.taxing import shows_tax_rates
from sandbox.errors import ApiError, missing_resource
from sandbox.params import BOOL, ID, METADATA, NEW_METADATA, TIME, Enum, Table, unsupported
from sandbox.render import expandable, inlined
from sandbox.routing import Call, delete, get, lists, post
from sandbox.store import Object
from sandbox.subscriptions.changing import change
from sandbox.subscriptions.subscribing import ENDED, items_of
from sandbox.subscriptions.subscription_params import (
    BEHAVIOURS,
    DISCOUNTS,
    PRORATION,
    QUANTITY,
    RECURRING_PRICE,
    TAX_RATES,
)

inlined("subscription_item", {"price": "price"})
expandable("subscription_item", {"discounts": "discount"})
shows_tax_rates("subscription_item", "tax_rates")

ITEM: Table = {
    "discounts": DISCOUNTS,
    "metadata": METADATA,
    "price": ID,
    "price_data": RECURRING_PRICE,
    "quantity": QUANTITY,
    "tax_rates": TAX_RATES,
}
HOW: Table = {
    "payment_behavior": Enum(*BEHAVIOURS),
    "proration_behavior": PRORATION,
    "proration_date": TIME,
}


@get("/v1/subscription_items/<id>")
def retrieve(call: Call) -> Object:
    return _live(call)


def _live(call: Call) -> Object:
    """Return the item. Raises ApiError (404) also for one that has been removed from its subscription."""
    item = call.state.get("subscription_item", call.args["id"], noun="subscription_item", param="item")
    if item["id"] not in call.state.get("subscription", item["subscription"])["_items"]:
        raise missing_resource("subscription_item", item["id"], param="item")
    return item


@post(
    "/v1/subscription_items",
    {**ITEM, **HOW, "metadata": NEW_METADATA, "subscription!": ID, **unsupported("billing_thresholds")},
)
def create(call: Call) -> Object:
    subscription = _changeable(call, call.params["subscription"])
    known = set(subscription["_items"])
    given = {name: value for name, value in call.params.items() if name in ITEM}
    _change(call, subscription, given)
    added = next(each for each in subscription["_items"] if each not in known)
    return call.state.get("subscription_item", added)


@post(
    "/v1/subscription_items/<id>",
    {**ITEM, **HOW, "off_session": BOOL, **unsupported("billing_thresholds")},
)
def update(call: Call) -> Object:
    item = _live(call)
    subscription = _changeable(call, item["subscription"])
    given = {name: value for name, value in call.params.items() if name in ITEM}
    _change(call, subscription, {"id": item["id"], **given})
    return call.state.get("subscription_item", item["id"])


@delete("/v1/subscription_items/<id>", {**HOW, **unsupported("clear_usage")})
def remove(call: Call) -> Object:
    item = _live(call)
    subscription = _changeable(call, item["subscription"])
    _change(call, subscription, {"id": item["id"], "deleted": True})
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def _changeable(call: Call, identifier: str) -> Object:
    subscription = call.state.get("subscription", identifier, param="subscription", status=400)
    if subscription["status"] in (*ENDED, "incomplete"):
        raise ApiError(
            f"This subscription is {subscription['status']}: its items cannot be changed.",
            param="subscription",
        )
    if subscription["schedule"] is not None:
        raise ApiError(
            f"The subscription is managed by the subscription schedule `{subscription['schedule']}`, and "
            "updating any plan directly is not allowed. Please update the schedule instead."
        )
    return subscription


def _change(call: Call, subscription: Object, given: dict[str, Any]) -> None:
    how = {name: value for name, value in call.params.items() if name in HOW or name == "off_session"}
    try:
        change(call.state, subscription, {"items": [given], **how})
    except ApiError as refusal:
        _name_as_given(refusal)
        raise


def _name_as_given(refusal: ApiError) -> None:
    """Let a refusal name the parameter as this endpoint has it: price, not items[0][price]."""
    error = refusal.body["error"]
    error["message"] = re.sub(r"items\[0\]\[(\w+)\]", r"\1", error["message"])
    if "param" in error:
        error["param"] = re.sub(r"^items\[0\]\[(\w+)\]", r"\1", error["param"])


@lists("/v1/subscription_items", {"subscription!": ID})
def index(call: Call) -> Object:
    subscription = call.state.get("subscription", call.params["subscription"], param="subscription")
    return call.page(items_of(call.state, subscription)[::-1])
