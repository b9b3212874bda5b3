"""Previews of invoices: the real thing is done in a scratch change, looked at and undone.

So a preview and the invoice that follows come from the same code and cannot differ.
"""

from typing import Any

from sandbox import agenda
from sandbox.catalog import discounting
from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object, copied
from sandbox.subscriptions.cancelling import cancel_now
from sandbox.subscriptions.changing import change, changes_anything, keep_end_in_step
from sandbox.subscriptions.subscribing import ENDED
from sandbox.subscriptions.subscription_settings import set_end

# Of what the agenda holds, what leads to a subscription's next invoice.
LEADS_THERE = (
    "subscription.trial_end",
    "subscription.period_end",
    "subscription.cancel",
    "subscription_schedule.phase",
)
FURTHEST = 60


def shown(state: Sandbox, invoice: Object, *, at: int) -> Object:
    """Return an invoice that has been drafted in a scratch change as a preview shows it."""
    draft = copied(invoice)
    draft.update(
        id="upcoming_" + state.new_id("invoice"),
        attempt_count=0,
        attempted=False,
        auto_advance=True,
        automatically_finalizes_at=None,
        created=at,
        status="draft",
        next_payment_attempt=at + 3600 if invoice["billing_reason"] == "subscription_cycle" else at,
    )
    draft["lines"]["url"] = f"/v1/invoices/{draft['id']}/lines"
    for line in draft["lines"]["data"]:
        line["invoice"] = draft["id"]
    return draft


def preview_change(state: Sandbox, subscription: Object, details: dict[str, Any]) -> Object:
    """Return the invoice that a change leads to: its own if it makes one at once, else the next renewal's.

    To be called in a scratch change. Raises ApiError (404, `invoice_upcoming_none`) where none will follow.
    """
    before = subscription["latest_invoice"]
    behaviour = details.get("proration_behavior", "create_prorations")
    if details.get("cancel_now"):
        cancel_now(state, subscription, invoice_now=True, prorate=behaviour != "none", preview=True)
    elif changes_anything(details):
        change(state, subscription, {**details, "payment_behavior": "preview"})
    if "cancel_at" in details or "cancel_at_period_end" in details:
        set_end(state, subscription, details)
        keep_end_in_step(state, subscription)
    if subscription["latest_invoice"] != before:
        return shown(state, state.get("invoice", subscription["latest_invoice"]), at=state.now())
    return preview_next(state, subscription)


def preview_next(state: Sandbox, subscription: Object) -> Object:
    """Return the next invoice that time will bring a subscription. To be called in a scratch change."""
    before = subscription["latest_invoice"]
    mine = (subscription["id"], subscription["schedule"])
    for _ in range(FURTHEST):
        row = _next_entry(state, mine)
        if row is None or subscription["status"] in ENDED:
            break
        with state.on_clock(state.clock_id, at=max(row["at"], state.now())):
            at = state.now()
            state.agenda.drop(row["what"], identifier=row["id"])
            agenda.work_of(row["what"])(state, row["id"])
            subscription = state.get("subscription", subscription["id"])
            if subscription["latest_invoice"] != before:
                return shown(state, state.get("invoice", subscription["latest_invoice"]), at=at)
    raise ApiError(
        f"No upcoming invoices for customer: '{subscription['customer']}'",
        status=404,
        code="invoice_upcoming_none",
    )


def _next_entry(state: Sandbox, identifiers: tuple[str, str | None]) -> Object | None:
    rows = [
        row for row in state.every(agenda.KIND) if row["id"] in identifiers and row["what"] in LEADS_THERE
    ]
    return min(rows, key=lambda row: (row["at"], agenda.rank_of(row["what"])), default=None)


def replace_discounts(state: Sandbox, subscription: Object, given: list[dict[str, Any]] | None) -> None:
    subscription["discounts"] = discounting.new_discounts(
        state,
        given or [],
        customer=subscription["customer"],
        subscription=subscription["id"],
        currency=subscription["currency"],
    )
    state.put(subscription)
