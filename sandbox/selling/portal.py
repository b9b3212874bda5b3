"""What a customer may do in the portal, by its configuration, and the doing of it through the API."""

from dataclasses import dataclass
from typing import Any

from sandbox.catalog.amounts import line_amount
from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import is_metered, items_of

# A link nobody opens dies after five minutes; an opened one, an hour after it was last used.
UNOPENED, IDLE = 300, 3600
SHOWN = ("active", "trialing", "past_due", "unpaid", "paused")
CHANGEABLE = ("active", "trialing", "past_due")
LONGER = ("day", "week", "month", "year")


def find_session(state: Sandbox, secret: str) -> Object | None:
    """Return the session a link belongs to while the link lives, else None."""
    for each in state.every("billing_portal.session"):
        if each["_secret"] == secret:
            now = state.clock.now()
            seen = each["_seen_at"]
            fresh = now < each["_made_at"] + UNOPENED if seen is None else now < seen + IDLE
            return each if fresh else None
    return None


def keep_alive(state: Sandbox, session: Object) -> None:
    """Note that the link was used. Part of the change in progress."""
    row = state.get("billing_portal.session", session["id"])
    row["_seen_at"] = state.clock.now()
    state.put(row)


def subscriptions_of(state: Sandbox, customer: str) -> list[Object]:
    """Return the subscriptions the portal shows, newest first, to be read and not changed."""
    return [
        each
        for each in state.newest("subscription")
        if each["customer"] == customer and each["status"] in SHOWN
    ]


def invoices_of(state: Sandbox, customer: str) -> list[Object]:
    """Return the invoices the portal shows, newest first: those that have been finalized."""
    return [
        each
        for each in state.newest("invoice")
        if each["customer"] == customer and each["status"] != "draft" and not each.get("deleted")
    ]


def cards_of(state: Sandbox, customer: str) -> list[Object]:
    return [each for each in state.newest("payment_method") if each["customer"] == customer]


def in_use(state: Sandbox, customer: Object, method: Object) -> bool:
    """Return whether removing a card would leave a running subscription without the one it charges."""
    running = subscriptions_of(state, customer["id"])
    chosen = {each["default_payment_method"] for each in running}
    if method["id"] in chosen:
        return True
    is_default = customer["invoice_settings"]["default_payment_method"] == method["id"]
    return is_default and None in chosen


def may_cancel(subscription: Object) -> bool:
    return (
        subscription["status"] in SHOWN
        and subscription["cancel_at"] is None
        and not subscription["cancel_at_period_end"]
    )


def may_resume(subscription: Object) -> bool:
    """Return whether a cancellation is planned that can still be taken back."""
    return subscription["status"] in SHOWN and not may_cancel(subscription)


def change_refusal(state: Sandbox, configuration: Object, subscription: Object) -> str | None:
    """Return why the portal cannot change what a subscription is for, as the end of a sentence, or None."""
    prices = [state.get("price", each["price"]) for each in items_of(state, subscription)]
    enabled = configuration["features"]["subscription_update"]["enabled"]
    refusals = {
        "the subscription update feature in the portal configuration is disabled.": not enabled,
        f"it is {subscription['status']}.": subscription["status"] not in CHANGEABLE,
        "it is set to be canceled.": not may_cancel(subscription),
        f"it is managed by the subscription schedule `{subscription['schedule']}`.": subscription["schedule"],
        "it has more than one item.": len(prices) != 1,
        "its price is usage-based or tiered.": any(
            is_metered(each) or each["billing_scheme"] != "per_unit" for each in prices
        ),
        "its invoices are sent to be paid by hand.": subscription["collection_method"] == "send_invoice",
        "an earlier update of it waits for a payment.": subscription["pending_update"],
    }
    return next((words for words, applies in refusals.items() if applies), None)


@dataclass(frozen=True)
class Offer:
    """A price a subscription may be switched to. `most` is None where the quantity has no upper bound."""

    price: Object
    product: Object
    quantity: int
    adjustable: bool
    least: int
    most: int | None
    is_current: bool


def offers(state: Sandbox, configuration: Object, subscription: Object) -> list[Offer]:
    """Return what the configuration offers a subscription, in its currency."""
    (item,) = items_of(state, subscription)
    allowed = configuration["features"]["subscription_update"]["default_allowed_updates"]
    found = []
    for each in configuration["_products"]:
        product = state.find("product", each["product"])
        adjustable = each["adjustable_quantity"]
        for identifier in each["prices"]:
            price = state.find("price", identifier)
            if product is None or product.get("deleted") or price is None or not price["active"]:
                continue
            is_current = price["id"] == item["price"]
            if price["currency"] != subscription["currency"] or not (is_current or "price" in allowed):
                continue
            found.append(
                Offer(
                    price=price,
                    product=product,
                    quantity=item["quantity"],
                    adjustable="quantity" in allowed and adjustable["enabled"],
                    least=adjustable["minimum"],
                    most=adjustable["maximum"],
                    is_current=is_current,
                )
            )
    return found


def waits_for_period_end(
    state: Sandbox, configuration: Object, item: Object, *, price: Object, quantity: int
) -> bool:
    """Return whether the configuration puts such a change off to the end of the period."""
    conditions = {
        each["type"]
        for each in configuration["features"]["subscription_update"]["schedule_at_period_end"]["conditions"]
    }
    old = state.get("price", item["price"])
    shorter = _length(price) < _length(old)
    if shorter and "shortening_interval" in conditions:
        return True
    same_rhythm = _length(price) == _length(old)
    cheaper = line_amount(price, quantity) < line_amount(old, item["quantity"])
    return same_rhythm and cheaper and "decreasing_item_amount" in conditions


def _length(price: Object) -> tuple[int, int]:
    return LONGER.index(price["recurring"]["interval"]), price["recurring"]["interval_count"]


def change_form(
    configuration: Object,
    subscription: Object,
    item: Object,
    *,
    price: Object,
    quantity: int,
    code: str | None,
) -> dict[str, str]:
    """Return the parameters that make the change at once by the configuration's rules."""
    rules = configuration["features"]["subscription_update"]
    form = {
        "items[0][id]": item["id"],
        "items[0][price]": price["id"],
        "items[0][quantity]": str(quantity),
        "proration_behavior": rules["proration_behavior"],
    }
    if rules["billing_cycle_anchor"] is not None:
        form["billing_cycle_anchor"] = rules["billing_cycle_anchor"]
    if subscription["status"] == "trialing" and rules["trial_update_behavior"] == "end_trial":
        form["trial_end"] = "now"
    if code is not None:
        form["discounts[0][promotion_code]"] = code
    return form


def schedule_form(schedule: dict[str, Any], *, price: Object, quantity: int) -> dict[str, str]:
    """Return the parameters that let a schedule's one phase run out and the new price follow it."""
    (phase,) = schedule["phases"]
    (item,) = phase["items"]
    return {
        "end_behavior": "release",
        "phases[0][start_date]": str(phase["start_date"]),
        "phases[0][end_date]": str(phase["end_date"]),
        "phases[0][items][0][price]": item["price"],
        "phases[0][items][0][quantity]": str(item["quantity"]),
        "phases[1][items][0][price]": price["id"],
        "phases[1][items][0][quantity]": str(quantity),
        "phases[1][duration][interval]": price["recurring"]["interval"],
        "phases[1][duration][interval_count]": str(price["recurring"]["interval_count"]),
    }


def cancel_form(configuration: Object, *, feedback: str | None, comment: str | None) -> dict[str, str]:
    """Return the parameters of a cancellation, now or at the end of the period as configured."""
    rules = configuration["features"]["subscription_cancel"]
    form = {}
    if feedback:
        form["cancellation_details[feedback]"] = feedback
    if comment:
        form["cancellation_details[comment]"] = comment
    if rules["mode"] == "immediately":
        form["prorate"] = "true" if rules["proration_behavior"] == "create_prorations" else "false"
        return form
    # Of subscriptions in flexible billing mode the portal sets the moment, not cancel_at_period_end.
    return {**form, "cancel_at": "max_period_end"}


def resume_form(subscription: Object) -> dict[str, str]:
    if subscription["cancel_at_period_end"]:
        return {"cancel_at_period_end": "false"}
    return {"cancel_at": ""}


def raise_for_payment(state: Sandbox, subscription: Object) -> Object | None:
    """Return the payment intent that waits for its payer to authenticate before a change takes effect.

    None where the change is made. Raises ApiError with the card's own words where the payment failed,
    so that the change is undone.
    """
    if subscription["pending_update"] is None:
        return None
    invoice = state.get("invoice", subscription["latest_invoice"])
    intent = state.get("payment_intent", invoice["_intent"])
    if intent["status"] == "requires_action":
        return intent
    error = intent["last_payment_error"] or {"message": "There is no card to pay for this change with."}
    raise ApiError(error["message"], status=402, type="card_error")
