"""What a customer who is deleted leaves behind: nothing that time would still carry on."""

from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.ending import end_subscription
from sandbox.subscriptions.scheduling import cancel
from sandbox.subscriptions.subscribing import ENDED


def part_with(state: Sandbox, customer: Object) -> None:
    """End a customer's subscriptions and schedules, and leave their drafts and open invoices as they are."""
    for each in list(state.every("subscription")):
        if each["customer"] == customer["id"] and each["status"] not in ENDED:
            end_subscription(state, state.get("subscription", each["id"]), reason="cancellation_requested")
    for each in list(state.every("subscription_schedule")):
        if each["customer"] == customer["id"] and each["status"] in ("active", "not_started"):
            schedule = state.get("subscription_schedule", each["id"])
            cancel(state, schedule, invoice_now=False, prorate=False)
    for each in list(state.every("invoice")):
        if each["customer"] == customer["id"] and each["status"] in ("draft", "open"):
            _stop(state, state.get("invoice", each["id"]))


def _stop(state: Sandbox, invoice: Object) -> None:
    before = state.render(invoice)
    invoice.update(auto_advance=False, automatically_finalizes_at=None, next_payment_attempt=None)
    state.agenda.drop("invoice.finalize", "invoice.retry", "invoice.overdue", identifier=invoice["id"])
    state.update(invoice, before=before, event="invoice.updated")
