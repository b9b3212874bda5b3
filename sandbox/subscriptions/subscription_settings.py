"""What is set on a subscription and does not change its bill at once: collection, discounts, its end."""

from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.pricing import build_price, get_price
from sandbox.catalog.taxing import get_tax_rates, require_automatic_tax
from sandbox.errors import ApiError
from sandbox.params import merge_metadata
from sandbox.resources.payment_methods import get_attached
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import charge_once, items_of


def add_invoice_items(
    state: Sandbox, subscription: Object, params: dict[str, Any], *, customer: Object
) -> None:
    for index, each in enumerate(params.get("add_invoice_items") or []):
        where = f"add_invoice_items[{index}]"
        if ("price" in each) == ("price_data" in each):
            raise ApiError("You must specify either `price` or `price_data`.", param=where)
        if "price" in each:
            price = get_price(state, each["price"], param=f"{where}[price]")
        else:
            data = each["price_data"]
            product = state.get("product", data["product"], param=f"{where}[price_data][product]", status=400)
            price = state.create(build_price(state, data, product=product["id"]), event="price.created")
        if price["type"] != "one_time":
            raise ApiError(
                "The price specified is set to `type=recurring` but this field only accepts prices with "
                f"`type=one_time`: {price['id']}.",
                param=f"{where}[price]",
            )
        charge_once(state, subscription, customer=customer, price=price, quantity=each.get("quantity", 1))


def apply_settings(state: Sandbox, subscription: Object, params: dict[str, Any], *, customer: Object) -> None:
    """Set what does not change the bill at once. Raises ApiError for what does not fit together."""
    for name in ("description", "trial_settings"):
        if name in params:
            subscription[name] = params[name]
    if "metadata" in params:
        subscription["metadata"] = merge_metadata(subscription["metadata"], params["metadata"])
    if "payment_settings" in params:
        subscription["payment_settings"] = {**subscription["payment_settings"], **params["payment_settings"]}
    if "default_payment_method" in params:
        chosen = params["default_payment_method"]
        subscription["default_payment_method"] = (
            chosen
            and get_attached(state, chosen, customer=customer["id"], param="default_payment_method")["id"]
        )
    if "default_tax_rates" in params:
        subscription["default_tax_rates"] = get_tax_rates(
            state, params["default_tax_rates"] or [], param="default_tax_rates"
        )
    if "automatic_tax" in params:
        if params["automatic_tax"]["enabled"]:
            require_automatic_tax(state, customer)
        subscription["automatic_tax"] = {
            "disabled_reason": None,
            "enabled": params["automatic_tax"]["enabled"],
            "liability": {"type": "self"} if params["automatic_tax"]["enabled"] else None,
        }
    _set_collection(subscription, params)
    if "discounts" in params:
        discounting.replace_discounts(
            state, subscription, params["discounts"] or [], currency=subscription["currency"]
        )
    set_end(state, subscription, params)
    state.put(subscription)


def _set_collection(subscription: Object, params: dict[str, Any]) -> None:
    method = params.get("collection_method", subscription["collection_method"])
    days = params.get("days_until_due", subscription["days_until_due"])
    if method == "send_invoice" and days is None:
        raise ApiError(
            "If `collection_method=send_invoice` is set, you must specify `days_until_due`.",
            param="days_until_due",
        )
    if method == "charge_automatically" and "days_until_due" in params:
        raise ApiError(
            "You may only specify `days_until_due` if `collection_method=send_invoice`.",
            param="days_until_due",
        )
    subscription.update(collection_method=method, days_until_due=days if method == "send_invoice" else None)


def set_end(state: Sandbox, subscription: Object, params: dict[str, Any]) -> None:
    """Set, move or lift the date on which the subscription cancels itself."""
    if params.get("cancel_at") is not None and params.get("cancel_at_period_end"):
        raise ApiError("You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
    if "cancel_at" not in params and "cancel_at_period_end" not in params:
        return
    ends = [each["current_period_end"] for each in items_of(state, subscription)]
    at = params.get("cancel_at")
    if at in ("max_period_end", "min_period_end"):
        at = max(ends) if at == "max_period_end" else min(ends)
    if at is not None and at <= state.now():
        raise ApiError("`cancel_at` must be a timestamp in the future.", param="cancel_at")
    whole = params.get("cancel_at_period_end", False)
    subscription["cancel_at_period_end"] = whole
    # With several intervals the end is that of the period that ends first.
    subscription["cancel_at"] = min(ends) if whole else at
    subscription["_prorates_cancel"] = params.get("proration_behavior", "create_prorations") != "none"
    if subscription["cancel_at"] is None:
        subscription["canceled_at"] = None
        subscription["cancellation_details"] = {"comment": None, "feedback": None, "reason": None}
    else:
        subscription["canceled_at"] = subscription["canceled_at"] or state.now()
        subscription["cancellation_details"]["reason"] = "cancellation_requested"


def pause(state: Sandbox, subscription: Object, given: dict[str, Any] | None) -> None:
    state.agenda.drop("subscription.resume_collection", identifier=subscription["id"])
    if given is None:
        subscription["pause_collection"] = None
        return
    resumes_at = given.get("resumes_at")
    if resumes_at is not None:
        if resumes_at <= state.now():
            raise ApiError(
                "`resumes_at` must be a timestamp in the future.", param="pause_collection[resumes_at]"
            )
        state.agenda.set("subscription.resume_collection", subscription["id"], resumes_at)
    subscription["pause_collection"] = {"behavior": given["behavior"], "resumes_at": resumes_at}
