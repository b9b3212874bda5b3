"""The end of a subscription, and what stops with it."""

from sandbox.invoices.invoice_shape import subscription_of
from sandbox.invoices.invoicing import void
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import ENTRIES, tell


def end_subscription(
    state: Sandbox,
    subscription: Object,
    *,
    reason: str,
    feedback: str | None = None,
    comment: str | None = None,
    event: str = "customer.subscription.deleted",
) -> None:
    """End a subscription at once: canceled, or incomplete_expired where it never began.

    Its open invoices stay open and are no longer collected by themselves. `event` tells of the end.
    """
    now, identifier = state.now(), subscription["id"]
    never_paid = subscription["status"] == "incomplete"
    subscription.update(
        status="incomplete_expired" if never_paid else "canceled",
        ended_at=now,
        canceled_at=subscription["canceled_at"] or now,
        pending_update=None,
    )
    subscription["_pending"] = None
    details = subscription["cancellation_details"]
    subscription["cancellation_details"] = {
        "comment": comment or details["comment"],
        "feedback": feedback or details["feedback"],
        "reason": reason,
    }
    state.agenda.drop(*ENTRIES, identifier=identifier)
    for each in list(state.every("invoice")):
        if subscription_of(each) == identifier and each["status"] == "open":
            invoice = state.get("invoice", each["id"])
            if never_paid:
                void(state, invoice)
            elif invoice["collection_method"] == "charge_automatically":
                _stop_collecting(state, invoice)
    _let_go_of_schedule(state, subscription, delinquent=reason == "payment_failed")
    tell(state, subscription, event=event)


def _stop_collecting(state: Sandbox, invoice: Object) -> None:
    before = state.render(invoice)
    invoice.update(auto_advance=False, next_payment_attempt=None)
    state.agenda.drop("invoice.retry", identifier=invoice["id"])
    state.update(invoice, before=before, event="invoice.updated")


def _let_go_of_schedule(state: Sandbox, subscription: Object, *, delinquent: bool) -> None:
    schedule = state.find("subscription_schedule", subscription["schedule"] or "")
    if schedule is None or schedule["status"] not in ("active", "not_started"):
        return
    schedule.update(status="canceled", canceled_at=state.now(), current_phase=None)
    state.agenda.drop("subscription_schedule.phase", identifier=schedule["id"])
    state.put(schedule)
    state.emit(f"subscription_schedule.{'aborted' if delinquent else 'canceled'}", schedule)
