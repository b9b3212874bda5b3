"""What the first page of the customer portal shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException

from sandbox.acting import demand
from sandbox.catalog.amounts import line_amount, money_text
from sandbox.errors import ApiError
from sandbox.invoices.lines import renewal_text
from sandbox.selling.portal import cards_of, change_refusal, in_use, invoices_of, may_resume, subscriptions_of
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import is_metered, items_of, paying_method

if TYPE_CHECKING:
    from sandbox.pages.visits import Visit

NEWEST = 24


def overview(visit: Visit) -> dict[str, Any]:
    """Return what the template needs."""
    state, customer = visit.state, visit.customer
    return {
        "plans": [plan(visit, each) for each in subscriptions_of(state, customer["id"])],
        "cards": [
            {
                "method": each,
                "is_default": each["id"] == visit.default_card,
                "in_use": in_use(state, customer, each),
            }
            for each in cards_of(state, customer["id"])
        ],
        "invoices": invoices_of(state, customer["id"])[:NEWEST],
        "tax_ids": [each for each in state.every("tax_id") if each["customer"] == customer["id"]],
    }


def plan(visit: Visit, subscription: Object) -> dict[str, Any]:
    """Return a subscription as the portal shows it: what it is for, and what comes next."""
    state = visit.state
    lines = [line(state, each, subscription["currency"]) for each in items_of(state, subscription)]
    paying = paying_method(state, subscription, customer=visit.customer)
    cancel = visit.features["subscription_cancel"]["enabled"]
    resumable = may_resume(subscription)
    return {
        "id": subscription["id"],
        "status": subscription["status"],
        "lines": lines,
        "paying": paying,
        "next": _next(state, subscription),
        "scheduled": _scheduled(state, subscription),
        "may_cancel": cancel and not resumable,
        "may_resume": cancel and resumable,
        "may_change": change_refusal(state, visit.configuration, subscription) is None,
    }


def line(state: Sandbox, item: Object, currency: str) -> dict[str, str]:
    price = state.get("price", item["price"])
    name = state.get("product", price["product"])["name"]
    return {"name": name, "price": price_text(price, item.get("quantity"), currency)}


def price_text(price: Object, quantity: int | None, currency: str) -> str:
    """Say what a price comes to each interval: $49.00 per month."""
    if is_metered(price):
        return f"Billed by use each {renewal_text(price)}"
    amount = money_text(line_amount(price, quantity or 0, currency=currency), currency)
    count = f" for {quantity}" if (quantity or 0) > 1 else ""
    return f"{amount} per {renewal_text(price)}{count}"


def _next(state: Sandbox, subscription: Object) -> dict[str, Any]:
    """Return when what comes next comes, in unix seconds, what it is, and what it costs where that is known."""
    if may_resume(subscription):
        return {"what": "cancels", "at": subscription["cancel_at"] or _period_end(state, subscription)}
    if subscription["status"] == "trialing":
        return {"what": "trial", "at": subscription["trial_end"], "amount": _upcoming(state, subscription)}
    return {
        "what": "renews",
        "at": _period_end(state, subscription),
        "amount": _upcoming(state, subscription),
    }


def _period_end(state: Sandbox, subscription: Object) -> int:
    return min(each["current_period_end"] for each in items_of(state, subscription))


def _upcoming(state: Sandbox, subscription: Object) -> str | None:
    form = {"subscription": subscription["id"]}
    try:
        with state.scratch():
            invoice = demand(state, "POST", "/v1/invoices/create_preview", form)
    except (ApiError, HTTPException):
        return None
    return money_text(invoice["amount_due"], invoice["currency"])


def _scheduled(state: Sandbox, subscription: Object) -> dict[str, Any] | None:
    """Return the change of plan that waits for the period's end, if the portal can tell it."""
    schedule = state.find("subscription_schedule", subscription["schedule"] or "")
    if schedule is None:
        return None
    later = [each for each in schedule["phases"] if each["start_date"] > state.now()]
    if not later:
        return None
    item = later[0]["items"][0]
    price = state.get("price", item["price"])
    return {
        "at": later[0]["start_date"],
        "name": state.get("product", price["product"])["name"],
        "price": price_text(price, item.get("quantity"), subscription["currency"]),
        "schedule": schedule["id"],
    }
