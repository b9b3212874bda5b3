"""Waking a subscription that was paused at the end of its trial."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.errors import ApiError
from sandbox.invoices.collecting import charge
from sandbox.invoices.debits import note_debits
from sandbox.invoices.invoice_items import pending
from sandbox.invoices.invoicing import draft_invoice, finalize, void, when_paid
from sandbox.invoices.lines import charge_lines, is_metered
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.prorating import debit_line, net_amounts
from sandbox.subscriptions.subscribing import items_of, natural_period, plan_period_end, tell

OPEN_FOR = 23 * 3600


def resume(
    state: Sandbox, subscription: Object, *, anchor: str, proration_behavior: str = "create_prorations"
) -> None:
    """Begin a paused subscription's next period; it is active once what is due for it has been paid.

    With the anchor unchanged, a period that is shorter for it is charged for by the second, or with
    proration_behavior=none not at all. Raises ApiError for a subscription that is not paused.
    """
    if subscription["status"] != "paused":
        raise ApiError(
            "You cannot resume the subscription because it is not paused: its status is "
            f"{subscription['status']}."
        )
    _give_up_invoice(state, subscription)
    now = state.now()
    customer = state.get("customer", subscription["customer"])
    if anchor == "now":
        subscription["billing_cycle_anchor"] = now
    lines = _begin_periods(state, subscription, prorate=proration_behavior != "none")
    waiting = pending(
        state, customer=customer["id"], subscription=subscription["id"], currency=subscription["currency"]
    )
    if not lines and not waiting:
        _wake(state, subscription)
        return
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_update",
        period=(now, now),
    )
    note_debits(state, invoice)
    subscription["_resumed_by"] = invoice["id"]
    state.put(subscription)
    tell(state, subscription)
    finalize(state, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "send_invoice":
        state.emit("invoice.sent", invoice)
    elif invoice["status"] == "open":
        charge(state, invoice, automatic=False)
    if invoice["status"] == "open":
        state.agenda.set("subscription.resume_expire", subscription["id"], now + OPEN_FOR)


def _begin_periods(state: Sandbox, subscription: Object, *, prorate: bool) -> list[Object]:
    """Let every item's period begin now, and return the lines that charge for it."""
    now = state.now()
    lines: list[Object] = []
    items = items_of(state, subscription)
    for item in items:
        end = natural_period(subscription, state.get("price", item["price"]), at=now)[1]
        item.update(current_period_start=now, current_period_end=end, _debit=None)
        state.put(item)
    nets = net_amounts(state, subscription, items)
    for item in items:
        price = state.get("price", item["price"])
        if is_metered(price):
            continue
        shared: dict[str, Any] = {"currency": subscription["currency"]}
        whole = natural_period(subscription, price, at=now)
        if whole[0] == now:
            lines += charge_lines(state, item, quantity=item["quantity"], period=whole, **shared)
        elif prorate:
            line = debit_line(state, item, net=nets[item["id"]], at=now, period=whole, **shared)
            lines += [line] if line else []
    return lines


def _wake(state: Sandbox, subscription: Object) -> None:
    subscription.update(status="active", _resumed_by=None)
    state.agenda.drop("subscription.resume_expire", identifier=subscription["id"])
    plan_period_end(state, subscription)
    tell(state, subscription)
    state.emit("customer.subscription.resumed", subscription)


@when_paid
def hear_of_paid_invoice(state: Sandbox, invoice: Object) -> None:
    settled(state, invoice)


def settled(state: Sandbox, invoice: Object) -> None:
    """Wake the subscription that waits for this invoice to be paid or written off, if one does."""
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    subscription = state.find("subscription", details.get("subscription") or "")
    if subscription is None or subscription["status"] != "paused":
        return
    if subscription.get("_resumed_by") == invoice["id"]:
        _wake(state, subscription)


@due("subscription.resume_expire", rank=ranks.EXPIRY)
def expire(state: Sandbox, identifier: str) -> None:
    """What was due for waking a subscription was not paid in time: it stays paused."""
    subscription = state.get("subscription", identifier)
    if subscription["status"] == "paused":
        _give_up_invoice(state, subscription)


def _give_up_invoice(state: Sandbox, subscription: Object) -> None:
    state.agenda.drop("subscription.resume_expire", identifier=subscription["id"])
    invoice = state.find("invoice", subscription.get("_resumed_by") or "")
    subscription["_resumed_by"] = None
    state.put(subscription)
    if invoice is not None and invoice["status"] == "open":
        void(state, invoice)
