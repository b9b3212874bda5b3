"""Collecting on invoices by itself: the first try, the retries after a decline, and what follows from them."""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.invoices.invoice_shape import subscription_of
from sandbox.invoices.invoicing import collect, finalize, mark_paid, mark_uncollectible, void, when_paid
from sandbox.payments.cards import Decline
from sandbox.payments.paying import when_settled
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.default_card import keep_card
from sandbox.subscriptions.ending import end_subscription
from sandbox.subscriptions.pending_updates import apply_pending_update, awaits
from sandbox.subscriptions.subscribing import paying_method, tell

DAY = 86400
# Stripe's classic schedule of a seller who has not chosen smart retries: days after the failure before.
DEFAULT_POLICY: dict[str, Any] = {"retry_days": [3, 5, 7], "then": "cancel"}
OUTCOMES = ("cancel", "unpaid", "past_due")


def retry_policy(state: Sandbox) -> dict[str, Any]:
    """Return {retry_days, then}: when failed renewals are tried again, and what comes of the last failure."""
    return {**DEFAULT_POLICY, **(state.find("_settings", "retries") or {})}


def set_retry_policy(state: Sandbox, *, retry_days: list[int], then: str) -> None:
    """Set the seller's retry schedule, which Stripe has in its dashboard. Raises ValueError for a bad one."""
    if then not in OUTCOMES or not all(1 <= each <= 60 for each in retry_days) or len(retry_days) > 8:
        raise ValueError(f"up to eight days of 1 to 60 each, and one of {', '.join(OUTCOMES)}")
    with state.change():
        state.store.put("_settings", "retries", {"retry_days": list(retry_days), "then": then})


@due("invoice.finalize", rank=ranks.FINALIZE)
def finalize_when_due(state: Sandbox, identifier: str) -> None:
    invoice = state.find("invoice", identifier)
    if invoice is not None and invoice["status"] == "draft" and invoice["auto_advance"]:
        advance(state, invoice)


def advance(state: Sandbox, invoice: Object) -> Decline | None:
    """Finalize a draft and do with it what its subscription says: charge, send, void or write off."""
    finalize(state, invoice)
    subscription = _subscription(state, invoice)
    paused = (subscription or {}).get("pause_collection") or {}
    if invoice["status"] != "open":
        return None
    if paused.get("behavior") == "void":
        void(state, invoice)
    elif paused.get("behavior") == "mark_uncollectible":
        mark_uncollectible(state, invoice)
    elif invoice["collection_method"] == "send_invoice":
        state.emit("invoice.sent", invoice)
    else:
        return charge(state, invoice)
    return None


def charge(
    state: Sandbox, invoice: Object, *, automatic: bool = True, off_session: bool = True
) -> Decline | None:
    """Charge an open invoice to the card its subscription or customer pays with; no card is a failure."""
    customer = state.get("customer", invoice["customer"])
    subscription = _subscription(state, invoice)
    method = paying_method(state, subscription, customer=customer, invoice=invoice)
    invoice["_automatic"] = automatic
    state.put(invoice)
    if method is not None:
        return collect(state, invoice, method, off_session=off_session)
    decline = Decline("resource_missing", "This customer has no default payment method.")
    _failed(state, invoice)
    return decline


@when_settled
def hear_of_payment(state: Sandbox, intent: Object, decline: Decline | None) -> None:
    """Let an invoice follow its payment, whoever made it: the sandbox, the seller or the payer."""
    invoice = state.find("invoice", intent.get("_invoice") or "")
    if invoice is None or invoice["status"] not in ("open", "uncollectible"):
        return
    invoice["attempted"] = True
    if intent["status"] == "succeeded":
        invoice["attempt_count"] += 1
        subscription = _subscription(state, invoice)
        if subscription is not None:
            keep_card(state, subscription, intent["payment_method"])
        mark_paid(state, invoice)
    elif intent["status"] == "requires_action":
        invoice["attempt_count"] += 1
        state.put(invoice)
        state.emit("invoice.payment_action_required", invoice)
        _failed(state, invoice, counted=True)
    elif decline is not None:
        _failed(state, invoice)


def _failed(state: Sandbox, invoice: Object, *, counted: bool = False) -> None:
    if not counted:
        invoice["attempt_count"] += 1
    invoice["attempted"] = True
    automatic = invoice.pop("_automatic", False)
    subscription = _subscription(state, invoice)
    last = automatic and _plan_retry(state, invoice, subscription)
    state.put(invoice)
    state.emit("invoice.payment_failed", invoice)
    _set_delinquent(state, invoice["customer"], delinquent=True)
    if subscription is None or awaits(subscription, invoice) or invoice["status"] == "uncollectible":
        return
    if subscription["status"] in ("active", "trialing"):
        subscription["status"] = "past_due"
        tell(state, subscription)
    if last and subscription["status"] == "past_due":
        _give_up(state, subscription)


def _plan_retry(state: Sandbox, invoice: Object, subscription: Object | None) -> bool:
    """Set the date of the next try. Returns whether there is none left."""
    if subscription is None or subscription["status"] not in ("active", "trialing", "past_due"):
        invoice["next_payment_attempt"] = None
        return False
    days = retry_policy(state)["retry_days"]
    number = invoice.get("_retries", 0)
    if number >= len(days):
        invoice["next_payment_attempt"] = None
        return True
    invoice["_retries"] = number + 1
    invoice["next_payment_attempt"] = state.now() + days[number] * DAY
    state.agenda.set("invoice.retry", invoice["id"], invoice["next_payment_attempt"])
    return False


@due("invoice.retry", rank=ranks.RETRY)
def retry(state: Sandbox, identifier: str) -> None:
    invoice = state.find("invoice", identifier)
    if invoice is not None and invoice["status"] == "open" and invoice["auto_advance"]:
        charge(state, invoice)


def resume_collecting(state: Sandbox, invoice: Object) -> None:
    """Have an open invoice tried again, an hour from now: Stripe names no time for it."""
    if invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = state.now() + 3600
        state.agenda.set("invoice.retry", invoice["id"], invoice["next_payment_attempt"])


def _give_up(state: Sandbox, subscription: Object) -> None:
    then = retry_policy(state)["then"]
    if then == "cancel":
        end_subscription(state, subscription, reason="payment_failed")
    elif then == "unpaid":
        subscription["status"] = "unpaid"
        tell(state, subscription)


@when_paid
def hear_of_paid_invoice(state: Sandbox, invoice: Object) -> None:
    """Bring a subscription back, or to life, when its latest invoice has been paid."""
    _set_delinquent(state, invoice["customer"], delinquent=False)
    subscription = _subscription(state, invoice)
    if subscription is None:
        return
    if awaits(subscription, invoice):
        apply_pending_update(state, subscription)
    revive(state, subscription, invoice)


def revive(state: Sandbox, subscription: Object, invoice: Object) -> None:
    """Make a subscription active whose latest invoice is settled: paid, or written off."""
    if subscription["latest_invoice"] != invoice["id"]:
        return
    paid = invoice["status"] == "paid"
    if subscription["status"] in ("past_due", "unpaid") or (paid and subscription["status"] == "incomplete"):
        state.agenda.drop("subscription.incomplete_expire", identifier=subscription["id"])
        trial = subscription["trial_end"]
        subscription["status"] = "trialing" if trial and trial > state.now() else "active"
        tell(state, subscription)


def _set_delinquent(state: Sandbox, identifier: str, *, delinquent: bool) -> None:
    customer = state.get("customer", identifier)
    if customer.get("deleted") or customer["delinquent"] == delinquent:
        return
    before = state.render(customer)
    customer["delinquent"] = delinquent
    state.update(customer, before=before, event="customer.updated")


@due("invoice.overdue", rank=ranks.RETRY)
def overdue(state: Sandbox, identifier: str) -> None:
    """The due date of a sent invoice has passed."""
    invoice = state.find("invoice", identifier)
    if invoice is None or invoice["status"] != "open":
        return
    state.emit("invoice.overdue", invoice)
    _set_delinquent(state, invoice["customer"], delinquent=True)
    subscription = _subscription(state, invoice)
    if subscription is not None and subscription["status"] == "active":
        subscription["status"] = "past_due"
        tell(state, subscription)


def _subscription(state: Sandbox, invoice: Object) -> Object | None:
    identifier = subscription_of(invoice)
    return state.find("subscription", identifier) if identifier else None
