"""Ending a subscription now."""

from typing import Any

from sandbox.invoices.collecting import charge
from sandbox.invoices.invoice_items import pending, set_aside
from sandbox.invoices.invoicing import draft_invoice, finalize
from sandbox.invoices.lines import is_metered
from sandbox.invoices.usage_lines import usage_lines
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.ending import end_subscription
from sandbox.subscriptions.pending_updates import drop_pending_update
from sandbox.subscriptions.prorating import credit_line
from sandbox.subscriptions.subscribing import (
    items_of,
)


def cancel_now(
    state: Sandbox,
    subscription: Object,
    *,
    invoice_now: bool = False,
    prorate: bool = False,
    feedback: str | None = None,
    comment: str | None = None,
    preview: bool = False,
) -> None:
    """End a subscription. Only `invoice_now` bills the usage so far; without it, it is lost to the seller.

    `prorate` gives back what is left of the period. Prorations, these and those that waited before, are on
    that invoice, else on the customer's next one. A `preview` stops at the draft.
    """
    drop_pending_update(state, subscription)
    customer = state.get("customer", subscription["customer"])
    currency = subscription["currency"]
    begun = subscription["status"] not in ("incomplete", "trialing", "paused")
    usage: list[Object] = []
    for item in items_of(state, subscription) if begun else []:
        period = (item["current_period_start"], state.now())
        if is_metered(state.get("price", item["price"])):
            if invoice_now and period[1] > period[0]:
                usage += usage_lines(state, item, customer=customer["id"], period=period, currency=currency)
        elif prorate and (line := credit_line(state, item, at=state.now(), currency=currency)):
            set_aside(state, line, customer=customer)
    end: dict[str, Any] = {"reason": "cancellation_requested", "feedback": feedback, "comment": comment}
    left = pending(state, customer=customer["id"], subscription=subscription["id"], currency=currency)
    if not invoice_now or not (usage or left):
        _release_waiting(state, subscription)
        end_subscription(state, subscription, **end)
        return
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=usage,
        reason="subscription_update",
        period=(state.now(), state.now()),
    )
    if preview:
        return
    finalize(state, invoice)
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        charge(state, invoice, automatic=False)
    end_subscription(state, subscription, **end)


def _release_waiting(state: Sandbox, subscription: Object) -> None:
    """Let any later invoice of the customer take up what waits for one of this subscription."""
    for item in pending(
        state,
        customer=subscription["customer"],
        subscription=subscription["id"],
        currency=subscription["currency"],
    ):
        item["_subscription"] = None
        state.put(item)
