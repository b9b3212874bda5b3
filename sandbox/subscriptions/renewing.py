"""What time brings a subscription: renewals, the end of its trial, its own end."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.catalog import discounting
from sandbox.clock import boundary_after
from sandbox.invoices.debits import note_debits
from sandbox.invoices.invoice_items import pending
from sandbox.invoices.invoicing import draft_invoice
from sandbox.invoices.lines import charge_lines, is_metered
from sandbox.invoices.usage_lines import usage_lines
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.ending import end_subscription
from sandbox.subscriptions.pending_updates import drop_pending_update
from sandbox.subscriptions.prorating import credit_line
from sandbox.subscriptions.subscribing import (
    ENDED,
    items_of,
    paying_method,
    plan_period_end,
    tell,
)


@due("subscription.trial_will_end", rank=ranks.TRIAL_WILL_END)
def warn(state: Sandbox, identifier: str) -> None:
    subscription = state.get("subscription", identifier)
    if subscription["status"] == "trialing":
        state.emit("customer.subscription.trial_will_end", subscription)


@due("subscription.incomplete_expire", rank=ranks.EXPIRY)
def expire_incomplete(state: Sandbox, identifier: str) -> None:
    """A first invoice not paid within 23 hours ends the subscription before it began."""
    subscription = state.get("subscription", identifier)
    if subscription["status"] == "incomplete":
        # Stripe tells of this one end as of a change: nothing was there yet to be deleted.
        event = "customer.subscription.updated"
        end_subscription(state, subscription, reason="payment_failed", event=event)


@due("discount_end", rank=ranks.EXPIRY)
def end_discount(state: Sandbox, identifier: str) -> None:
    subscription = discounting.end_discount(state, identifier)
    if subscription is not None:
        tell(state, subscription)


@due("subscription.resume_collection", rank=ranks.TRIAL_END)
def resume_collection(state: Sandbox, identifier: str) -> None:
    subscription = state.get("subscription", identifier)
    subscription["pause_collection"] = None
    tell(state, subscription)


@due("subscription.trial_end", rank=ranks.TRIAL_END)
@due("subscription.period_end", rank=ranks.PERIOD_END)
def end_period(state: Sandbox, identifier: str) -> None:
    """Renew what has come to its end, unless the subscription ends with it."""
    subscription = state.get("subscription", identifier)
    now = state.now()
    if subscription["status"] in (*ENDED, "incomplete", "paused"):
        return
    drop_pending_update(state, subscription)
    if subscription["cancel_at"] is not None and subscription["cancel_at"] <= now:
        # Its turn comes in the same second, after every renewal: see `cancel_when_due`.
        return
    if subscription["status"] == "trialing" and subscription["trial_end"] <= now:
        _end_trial(state, subscription)
    else:
        renew(state, subscription)


@due("subscription.cancel", rank=ranks.CANCEL)
def cancel_when_due(state: Sandbox, identifier: str) -> None:
    subscription = state.get("subscription", identifier)
    if subscription["status"] not in ENDED:
        close(state, subscription)


def _end_trial(state: Sandbox, subscription: Object) -> None:
    customer = state.get("customer", subscription["customer"])
    behaviour = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if paying_method(state, subscription, customer=customer) is None and behaviour != "create_invoice":
        if behaviour == "cancel":
            end_subscription(state, subscription, reason="cancellation_requested")
        else:
            subscription["status"] = "paused"
            tell(state, subscription)
            state.emit("customer.subscription.paused", subscription)
        return
    renew(state, subscription, after_trial=True)


def renew(state: Sandbox, subscription: Object, *, after_trial: bool = False) -> Object | None:
    """Start the next period of every item whose period has ended, and draft the invoice for it.

    Licensed items are billed ahead, metered ones for the period that closed; usage in a trial is free.
    """
    now = state.now()
    lines: list[Object] = []
    arrears: list[Object] = []
    starts: list[int] = []
    for item in items_of(state, subscription):
        if item["current_period_end"] > now:
            continue
        price = state.get("price", item["price"])
        recurring = price["recurring"]
        closed = (item["current_period_start"], item["current_period_end"])
        starts.append(closed[0])
        end = boundary_after(
            subscription["billing_cycle_anchor"],
            interval=recurring["interval"],
            count=recurring["interval_count"],
            after=now,
        )
        shared: dict[str, Any] = {"currency": subscription["currency"]}
        if is_metered(price):
            if not after_trial and closed[0] < closed[1]:
                arrears += usage_lines(
                    state, item, customer=subscription["customer"], period=closed, **shared
                )
        else:
            lines += charge_lines(state, item, quantity=item["quantity"], period=(closed[1], end), **shared)
        item.update(current_period_start=closed[1], current_period_end=end, _debit=None)
        state.put(item)
    plan_period_end(state, subscription)
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    invoice = _draft(state, subscription, lines + arrears, period=(min(starts), now)) if starts else None
    tell(state, subscription)
    return invoice


def _draft(
    state: Sandbox, subscription: Object, lines: list[Object], *, period: tuple[int, int]
) -> Object | None:
    customer = state.get("customer", subscription["customer"])
    waiting = pending(
        state, customer=customer["id"], subscription=subscription["id"], currency=subscription["currency"]
    )
    if not lines and not waiting:
        return None
    kept_back = (subscription["pause_collection"] or {}).get("behavior") == "keep_as_draft"
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_cycle",
        period=period,
        wait=True,
        auto_advance=not kept_back and subscription["status"] != "unpaid",
    )
    note_debits(state, invoice)
    return invoice


def close(state: Sandbox, subscription: Object) -> None:
    """End a subscription on its date: bill the usage and the prorations that are left, then cancel it."""
    now = state.now()
    customer = subscription["customer"]
    currency = subscription["currency"]
    lines: list[Object] = []
    # Of a trial, and of what was paused after one, no usage is billed.
    free = subscription["status"] in ("trialing", "paused")
    items = items_of(state, subscription)
    for item in items:
        period = (item["current_period_start"], now)
        if is_metered(state.get("price", item["price"])):
            if not free and period[1] > period[0]:
                lines += usage_lines(state, item, customer=customer, period=period, currency=currency)
        elif subscription["_prorates_cancel"]:
            line = credit_line(state, item, at=now, currency=currency)
            lines += [line] if line else []
    start = min(item["current_period_start"] for item in items)
    _draft(state, subscription, lines, period=(start, now))
    reason = subscription["cancellation_details"]["reason"] or "cancellation_requested"
    end_subscription(state, subscription, reason=reason)
