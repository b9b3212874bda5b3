"""Changing a running subscription: its items, its anchor, its trial; and the invoice that may follow."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import ApiError
from sandbox.invoices.collecting import charge
from sandbox.invoices.debits import note_debits
from sandbox.invoices.invoice_items import set_aside, set_aside_usage
from sandbox.invoices.invoicing import draft_invoice, finalize
from sandbox.invoices.lines import charge_lines, is_metered
from sandbox.invoices.usage_lines import usage_lines
from sandbox.payments.cards import Decline
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.item_changes import ItemChange, apply_change, read_changes
from sandbox.subscriptions.pending_updates import drop_pending_update, hold_back, snapshot
from sandbox.subscriptions.prorating import credit_line, debit_line, net_amounts
from sandbox.subscriptions.subscribing import (
    items_of,
    natural_period,
    plan_period_end,
    tell,
    warn_of_trial_end,
)

LONGEST_TRIAL = 730 * 86400
PENDING_TAKES = {
    "items",
    "proration_behavior",
    "proration_date",
    "payment_behavior",
    "billing_cycle_anchor",
    "trial_end",
    "off_session",
    "expand",
}


@dataclass
class Bill:
    """What a change puts on an invoice: lines that may wait for the next one, and such that may not."""

    waiting: list[Object] = field(default_factory=list)
    # The lines of each metered item that was closed out; they wait as well.
    usage: list[list[Object]] = field(default_factory=list)
    now: list[Object] = field(default_factory=list)


def changes_anything(params: dict[str, Any]) -> bool:
    return bool(params.get("items")) or "trial_end" in params or params.get("billing_cycle_anchor") == "now"


def change(
    state: Sandbox, subscription: Object, params: dict[str, Any], *, agreed: bool = False
) -> Decline | None:
    """Make a change as asked and bill it as asked. Returns why collecting failed, else None.

    One that was `agreed` on earlier may use prices archived since. `params` are those of
    POST /v1/subscriptions/{id}. Raises ApiError for items that are not the subscription's, for dates out of
    reach, and with payment_behavior=error_if_incomplete for a decline.
    """
    behaviour = params.get("proration_behavior", "create_prorations")
    payment = params.get("payment_behavior", "allow_incomplete")
    if payment == "pending_if_incomplete":
        check_pending(params)
    drop_pending_update(state, subscription)
    before = snapshot(state, subscription)
    at = _proration_date(state, subscription, params)
    # Past due subscriptions prorate like active ones; one that never began has nothing to prorate.
    prorate = behaviour != "none" and subscription["status"] in ("active", "past_due", "unpaid")
    changes = read_changes(state, subscription, params.get("items") or [], agreed=agreed)
    bill = Bill()
    reset = _change_items(
        state, subscription, changes, bill, at=at, prorate=prorate, bills_usage=behaviour != "none"
    )
    trial_end = params.get("trial_end")
    if trial_end == "now":
        reset = reset or subscription["status"] == "trialing"
    elif trial_end is not None:
        _start_trial(state, subscription, int(trial_end), bill, prorate=prorate)
    # In a trial the new interval begins when the trial ends; nothing is charged before.
    reset = reset and (subscription["status"] != "trialing" or trial_end == "now")
    anchored = reset or params.get("billing_cycle_anchor") == "now"
    if anchored:
        _reset_anchor(state, subscription, bill, prorate=prorate)
    elif subscription["status"] != "trialing":
        rebilled = [each.item for each in changes if each.rebills]
        _charge_rest(state, subscription, rebilled, bill, at=at, prorate=prorate)
    plan_period_end(state, subscription)
    keep_end_in_step(state, subscription)
    if payment != "pending_if_incomplete":
        tell(state, subscription)
    customer = state.get("customer", subscription["customer"])
    for line in bill.waiting:
        set_aside(state, line, customer=customer)
    for lines in bill.usage:
        set_aside_usage(state, lines, customer=customer)
    decline = None
    if bill.now or (behaviour == "always_invoice" and (bill.waiting or bill.usage)):
        decline = _invoice(
            state,
            subscription,
            bill.now,
            payment=payment,
            before=before,
            customer=customer,
            anchored=anchored,
            off_session=params.get("off_session", False),
        )
    tell(state, subscription)
    return decline


def check_pending(params: dict[str, Any]) -> None:
    """Raise ApiError for a parameter that cannot wait for an invoice to be paid."""
    others = sorted(set(params) - PENDING_TAKES)
    if others:
        raise ApiError(
            f"`{others[0]}` cannot be updated with payment_behavior=pending_if_incomplete.", param=others[0]
        )


def _proration_date(state: Sandbox, subscription: Object, params: dict[str, Any]) -> int:
    if "proration_date" not in params:
        return state.now()
    at: int = params["proration_date"]
    items = items_of(state, subscription)
    if not any(each["current_period_start"] <= at <= each["current_period_end"] for each in items):
        raise ApiError(
            "Cannot specify proration_date outside of current subscription period.", param="proration_date"
        )
    return at


def _change_items(
    state: Sandbox,
    subscription: Object,
    changes: list[ItemChange],
    bill: Bill,
    *,
    at: int,
    prorate: bool,
    bills_usage: bool,
) -> bool:
    """Apply the changes, crediting what was paid for. Returns whether an interval changed with them."""
    reset = False
    for each in changes:
        if each.item is not None and each.rebills:
            _close_out(state, subscription, each.item, bill, at=at, prorate=prorate, bills_usage=bills_usage)
        reset = reset or each.changes_interval
        apply_change(state, subscription, each)
    return reset


def _close_out(
    state: Sandbox,
    subscription: Object,
    item: Object,
    bill: Bill,
    *,
    at: int,
    prorate: bool,
    bills_usage: bool = True,
) -> None:
    """Credit what is left of a licensed item's period; bill what a metered one has used at its old price.

    Without `bills_usage` what was used in a period cut short is never billed: Stripe says so of
    proration_behavior=none, docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup.
    """
    currency = subscription["currency"]
    if is_metered(state.get("price", item["price"])):
        now = state.now()
        period = (item["current_period_start"], now)
        is_billed = bills_usage or item["current_period_end"] <= now
        if is_billed and subscription["status"] != "trialing" and period[1] > period[0]:
            bill.usage.append(
                usage_lines(state, item, customer=subscription["customer"], period=period, currency=currency)
            )
        item["current_period_start"] = now
        state.put(item)
    elif prorate:
        line = credit_line(state, item, at=at, currency=currency)
        bill.waiting += [line] if line else []


def _charge_rest(
    state: Sandbox,
    subscription: Object,
    items: list[Object | None],
    bill: Bill,
    *,
    at: int,
    prorate: bool,
) -> None:
    if not prorate:
        return
    left = items_of(state, subscription)
    nets = net_amounts(state, subscription, left)
    for item in items:
        if item is None or item["id"] not in nets or item["id"] not in subscription["_items"]:
            continue
        current = state.get("subscription_item", item["id"])
        if current["current_period_end"] <= state.now():
            continue  # The renewal, due this very second, bills the new price.
        whole = natural_period(subscription, state.get("price", current["price"]), at=at)
        line = debit_line(
            state, current, net=nets[item["id"]], at=at, period=whole, currency=subscription["currency"]
        )
        bill.waiting += [line] if line else []


def _reset_anchor(state: Sandbox, subscription: Object, bill: Bill, *, prorate: bool) -> None:
    """Begin a new period of every item now: the old one is credited or billed, the new one charged in full."""
    now = state.now()
    trial = subscription["status"] == "trialing"
    if trial:
        subscription.update(status="active", trial_end=now)
        state.agenda.drop("subscription.trial_will_end", identifier=subscription["id"])
    subscription["billing_cycle_anchor"] = now
    for item in items_of(state, subscription):
        price = state.get("price", item["price"])
        if not trial:
            already = any(
                line["parent"]["subscription_item_details"]["subscription_item"] == item["id"]
                for line in bill.waiting
            )
            if not already:
                _close_out(state, subscription, item, bill, at=now, prorate=prorate)
        period = (now, natural_period(subscription, price, at=now)[1])
        item.update(current_period_start=period[0], current_period_end=period[1], _debit=None)
        state.put(item)
        if not is_metered(price):
            bill.now += charge_lines(
                state, item, quantity=item["quantity"], period=period, currency=subscription["currency"]
            )


def _start_trial(state: Sandbox, subscription: Object, end: int, bill: Bill, *, prorate: bool) -> None:
    now = state.now()
    if end <= now:
        raise ApiError(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    if end > now + LONGEST_TRIAL:
        raise ApiError("Invalid trial_end: a trial may last two years at most.", param="trial_end")
    running = subscription["status"] == "trialing"
    for item in items_of(state, subscription):
        if not running:
            _close_out(state, subscription, item, bill, at=now, prorate=prorate)
            item["current_period_start"] = now
        item.update(current_period_end=end, _debit=None)
        state.put(item)
    subscription.update(
        billing_cycle_anchor=end,
        status="trialing",
        trial_end=end,
        trial_start=subscription["trial_start"] if running else now,
    )
    warn_of_trial_end(state, subscription)


def _invoice(
    state: Sandbox,
    subscription: Object,
    lines: list[Object],
    *,
    payment: str,
    before: dict[str, Object],
    customer: Object,
    anchored: bool,
    off_session: bool,
) -> Decline | None:
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_update",
        period=(state.now(), state.now()),
    )
    note_debits(state, invoice)
    if payment == "preview":
        return None
    if payment == "pending_if_incomplete":
        subscription["_pending"] = {"invoice": invoice["id"], "after": None}
        state.put(subscription)
    finalize(state, invoice)
    if invoice["status"] != "open":
        return None
    if invoice["collection_method"] == "send_invoice":
        state.emit("invoice.sent", invoice)
        return None
    if payment == "default_incomplete":
        if subscription["status"] == "active":
            subscription["status"] = "past_due"
        return None
    decline = charge(state, invoice, automatic=payment == "allow_incomplete", off_session=off_session)
    if payment == "error_if_incomplete" and invoice["status"] == "open":
        raise (decline or Decline("authentication_required", "This payment needs authentication.")).error()
    if payment == "pending_if_incomplete" and invoice["status"] == "open":
        hold_back(state, subscription, before=before, invoice=invoice, anchored=anchored)
    return decline


def keep_end_in_step(state: Sandbox, subscription: Object) -> None:
    """Let a cancellation at the period's end follow the period, and enter the date of any cancellation."""
    if subscription["cancel_at_period_end"]:
        subscription["cancel_at"] = min(each["current_period_end"] for each in items_of(state, subscription))
    if subscription["cancel_at"] is None:
        state.agenda.drop("subscription.cancel", identifier=subscription["id"])
    else:
        state.agenda.set("subscription.cancel", subscription["id"], subscription["cancel_at"])
    state.put(subscription)
