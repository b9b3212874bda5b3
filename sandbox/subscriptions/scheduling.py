"""Subscription schedules: the changes of a subscription that are agreed ahead."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.catalog import discounting
from sandbox.errors import ApiError
from sandbox.invoices.collecting import charge
from sandbox.invoices.lines import is_metered
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.cancelling import cancel_now
from sandbox.subscriptions.changing import change, keep_end_in_step
from sandbox.subscriptions.renewing import close
from sandbox.subscriptions.subscribing import (
    ENDED,
    Wanted,
    begin,
    build,
    first_invoice,
    items_of,
    tell,
)

OVER = ("completed", "released", "canceled")


def save(state: Sandbox, schedule: Object, *, before: Object) -> None:
    state.update(schedule, before=before, event="subscription_schedule.updated")


def plan(state: Sandbox, schedule: Object) -> None:
    """Enter when the schedule has something to do next: its start, or the end of its phase."""
    phase = current_phase(state, schedule)
    if schedule["status"] == "not_started":
        state.agenda.set("subscription_schedule.phase", schedule["id"], schedule["phases"][0]["start_date"])
    elif phase is not None:
        state.agenda.set("subscription_schedule.phase", schedule["id"], phase["end_date"])


def current_phase(state: Sandbox, schedule: Object) -> Object | None:
    now = state.now()
    for phase in schedule["phases"]:
        if phase["start_date"] <= now < phase["end_date"]:
            return dict(phase)
    return None


def start(state: Sandbox, schedule: Object) -> None:
    """Begin the first phase: make its subscription."""
    phase = schedule["phases"][0]
    customer = state.get("customer", schedule["customer"])
    wanted = [
        Wanted(
            state.get("price", each["price"]),
            each.get("quantity"),
            dict(each["metadata"]),
            [],
            list(each["tax_rates"]),
        )
        for each in phase["items"]
    ]
    subscription = build(
        state,
        customer=customer,
        wanted=wanted,
        trial_end=_trial_end(phase),
        currency=phase["currency"],
        metadata=dict(phase["metadata"]),
        schedule=schedule["id"],
    )
    _apply_settings(state, subscription, phase)
    for item, each in zip(items_of(state, subscription), phase["items"], strict=True):
        given = _redeemable(state, item, each["discounts"], subscription=subscription)
        discounting.replace_discounts(state, item, given, currency=subscription["currency"])
    schedule.update(subscription=subscription["id"], status="active")
    announce_end(state, schedule)
    _show_current(state, schedule)
    state.put(schedule)
    begin(state, subscription)
    invoice = first_invoice(state, subscription, customer=customer)
    if invoice is None or invoice["status"] == "paid":
        if subscription["status"] == "incomplete":
            subscription["status"] = "active"
            state.agenda.drop("subscription.incomplete_expire", identifier=subscription["id"])
    else:
        # Stripe gives scheduled subscriptions no way to be incomplete: they begin and owe.
        subscription["status"] = "active"
        state.agenda.drop("subscription.incomplete_expire", identifier=subscription["id"])
        charge(state, invoice)
    tell(state, subscription)
    plan(state, schedule)


def _trial_end(phase: Object) -> int | None:
    end: int | None = phase["end_date"] if phase["_trial"] else phase["trial_end"]
    return end


def _show_current(state: Sandbox, schedule: Object) -> None:
    phase = current_phase(state, schedule)
    schedule["current_phase"] = (
        None if phase is None else {"end_date": phase["end_date"], "start_date": phase["start_date"]}
    )


@due("subscription_schedule.phase", rank=ranks.SCHEDULE)
def go_on(state: Sandbox, identifier: str) -> None:
    """Begin the schedule, go on to its next phase, or end it."""
    schedule = state.get("subscription_schedule", identifier)
    if schedule["status"] in OVER:
        return
    before = state.render(schedule)
    if schedule["status"] == "not_started":
        start(state, schedule)
        save(state, schedule, before=before)
        return
    phase = current_phase(state, schedule)
    if phase is None:
        _finish(state, schedule)
        return
    enter(state, schedule, phase, proration_behavior=phase["proration_behavior"])
    plan(state, schedule)
    save(state, schedule, before=before)


def enter(state: Sandbox, schedule: Object, phase: Object, *, proration_behavior: str) -> None:
    """Make the subscription what a phase says it is."""
    subscription = state.get("subscription", schedule["subscription"])
    if subscription["status"] in ENDED:
        return
    _apply_settings(state, subscription, phase)
    items = _differences(state, subscription, phase)
    params: dict[str, Any] = {"proration_behavior": proration_behavior}
    if items:
        params["items"] = items
    if phase["billing_cycle_anchor"] == "phase_start":
        params["billing_cycle_anchor"] = "now"
    trial_end = _trial_end(phase)
    if trial_end is not None and trial_end > state.now() and trial_end != subscription["trial_end"]:
        params["trial_end"] = trial_end
    if len(params) > 1:
        change(state, subscription, params, agreed=True)
    _show_current(state, schedule)
    state.put(schedule)
    tell(state, subscription)


def _apply_settings(state: Sandbox, subscription: Object, phase: Object) -> None:
    for name in ("description", "default_payment_method"):
        if phase[name] is not None:
            subscription[name] = phase[name]
    subscription["metadata"] = {**subscription["metadata"], **phase["metadata"]}
    subscription["default_tax_rates"] = list(phase["default_tax_rates"])
    subscription["automatic_tax"]["enabled"] = phase["automatic_tax"]["enabled"]
    given = _redeemable(state, subscription, phase["discounts"], subscription=subscription)
    discounting.replace_discounts(state, subscription, given, currency=subscription["currency"])


def _redeemable(
    state: Sandbox, holder: Object, agreed: list[Object], *, subscription: Object
) -> list[dict[str, Any]]:
    """Return what of a phase's discounts a subscription or item gets when the phase begins.

    One that it has already goes on, and one that can no longer be redeemed is left out: nobody is there
    to be told.
    """
    given: list[dict[str, Any]] = []
    for each in agreed:
        named = {name: value for name, value in each.items() if value is not None}
        held = next((own for own in holder["discounts"] if _is_of(state.get("discount", own), named)), None)
        if held is not None:
            named = {"discount": held}
        try:
            # Tried out, so that a code is counted once, when it is really redeemed.
            with state.scratch():
                discounting.new_discounts(
                    state, [named], customer=subscription["customer"], currency=subscription["currency"]
                )
        except ApiError:
            continue
        given.append(named)
    return given


def _is_of(discount: Object, named: dict[str, Any]) -> bool:
    if "coupon" in named:
        return discount["source"]["coupon"] == named["coupon"] and discount["promotion_code"] is None
    return named.get("promotion_code") is not None and discount["promotion_code"] == named["promotion_code"]


def announce_end(state: Sandbox, schedule: Object) -> None:
    """Show on the subscription when its schedule will cancel it, if it will."""
    subscription = state.find("subscription", schedule["subscription"] or "")
    if subscription is None or subscription["status"] in ENDED:
        return
    end = schedule["phases"][-1]["end_date"] if schedule["end_behavior"] == "cancel" else None
    if end is not None:
        subscription["cancel_at"] = end
    elif schedule.get("_ends_at") == subscription["cancel_at"]:
        subscription["cancel_at"] = None
    schedule["_ends_at"] = end
    state.put(schedule)
    state.put(subscription)


def _differences(state: Sandbox, subscription: Object, phase: Object) -> list[dict[str, Any]]:
    """Return the entries of `items` that turn the subscription's items into the phase's.

    An item whose price stays is kept; the others hand over to new prices of their kind in order.
    """
    left = list(items_of(state, subscription))
    wanted = list(phase["items"])
    entries: list[dict[str, Any]] = []

    def pair(item: Object, each: Object) -> None:
        left.remove(item)
        wanted.remove(each)
        entry: dict[str, Any] = {"id": item["id"], "price": each["price"]}
        if "quantity" in each:
            entry["quantity"] = each["quantity"]
        if each["metadata"]:
            entry["metadata"] = each["metadata"]
        if item["tax_rates"] != each["tax_rates"]:
            entry["tax_rates"] = each["tax_rates"]
        if item["discounts"] or each["discounts"]:
            entry["discounts"] = _redeemable(state, item, each["discounts"], subscription=subscription)
        same = item["price"] == each["price"] and item.get("quantity") == each.get("quantity")
        if not same or len(entry) > 2 + ("quantity" in each):
            entries.append(entry)

    for item in list(left):
        same = next((each for each in wanted if each["price"] == item["price"]), None)
        if same is not None:
            pair(item, same)
    for item in list(left):
        metered = is_metered(state.get("price", item["price"]))
        like = next(
            (each for each in wanted if is_metered(state.get("price", each["price"])) == metered), None
        )
        if like is not None:
            pair(item, like)
    entries += [{"id": item["id"], "deleted": True} for item in left]
    for each in wanted:
        entry = {
            "price": each["price"],
            "tax_rates": each["tax_rates"],
            "metadata": each["metadata"],
            "discounts": _redeemable(state, {"discounts": []}, each["discounts"], subscription=subscription),
        }
        entries.append({**entry, "quantity": each["quantity"]} if "quantity" in each else entry)
    return entries


def _finish(state: Sandbox, schedule: Object) -> None:
    """The last phase is over: let the subscription go on without a schedule, or end it."""
    if schedule["end_behavior"] == "release":
        release(state, schedule)
        return
    subscription = state.get("subscription", schedule["subscription"])
    schedule.update(status="completed", completed_at=state.now(), current_phase=None)
    state.put(schedule)
    if subscription["status"] not in ENDED:
        close(state, subscription)
    state.emit("subscription_schedule.completed", schedule)


def release(state: Sandbox, schedule: Object, *, preserve_cancel_date: bool = False) -> None:
    """Take the schedule off its subscription, which goes on as it is.

    A cancellation that the schedule has set goes with it, unless it is to be preserved.
    """
    subscription = state.find("subscription", schedule["subscription"] or "")
    state.agenda.drop("subscription_schedule.phase", identifier=schedule["id"])
    schedule.update(
        status="released",
        released_at=state.now(),
        released_subscription=schedule["subscription"],
        subscription=None,
        current_phase=None,
    )
    state.put(schedule)
    if subscription is not None:
        subscription["schedule"] = None
        mine = schedule.get("_ends_at")
        if not preserve_cancel_date and mine is not None and subscription["cancel_at"] == mine:
            subscription.update(cancel_at=None, cancel_at_period_end=False)
        keep_end_in_step(state, subscription)
        tell(state, subscription)
    state.emit("subscription_schedule.released", schedule)


def cancel(state: Sandbox, schedule: Object, *, invoice_now: bool, prorate: bool) -> None:
    """End the schedule and its subscription now."""
    state.agenda.drop("subscription_schedule.phase", identifier=schedule["id"])
    subscription = state.find("subscription", schedule["subscription"] or "")
    schedule.update(status="canceled", canceled_at=state.now(), current_phase=None)
    state.put(schedule)
    if subscription is not None and subscription["status"] not in ENDED:
        cancel_now(state, subscription, invoice_now=invoice_now, prorate=prorate)
    state.emit("subscription_schedule.canceled", schedule)
