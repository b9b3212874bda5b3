"""Invoices: drafting, finalizing, collecting, voiding."""

from collections.abc import Callable
from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.taxing import tax_ids_of
from sandbox.invoices.balance import change_balance
from sandbox.invoices.debits import settle_debits
from sandbox.invoices.invoice_items import lines_of, pending, refresh_usage
from sandbox.invoices.invoice_shape import new_invoice, subscription_of, subscription_parent
from sandbox.invoices.totals import add_up, after_balance
from sandbox.payments.cards import Decline
from sandbox.payments.paying import confirm, new_intent
from sandbox.state import Sandbox
from sandbox.store import Object

# Stripe leaves a draft of its own making open for about an hour, for the seller to change.
DRAFT_FOR = 3600

Paid = Callable[[Sandbox, Object], None]
_PAID: list[Paid] = []


def when_paid(heard: Paid) -> Paid:
    """Register who is told of each invoice that is paid, by whatever means: `heard(sandbox, invoice)`."""
    _PAID.append(heard)
    return heard


def draft_invoice(
    state: Sandbox,
    *,
    customer: Object,
    reason: str,
    period: tuple[int, int],
    lines: list[Object],
    subscription: Object | None = None,
    currency: str | None = None,
    pull: bool = True,
    wait: bool = False,
    **fields: Any,
) -> Object:
    """Store and return a draft. With `pull` it takes up the invoice items that wait for one.

    With `wait` it finalizes itself an hour later.
    """
    shared: dict[str, Any] = {}
    if subscription is not None:
        at = state.now()
        own = [each for each in subscription["discounts"] if discounting.is_live(state, each, at=at)]
        shared = {
            "automatic_tax": {
                **subscription["automatic_tax"],
                "provider": "stripe" if subscription["automatic_tax"]["enabled"] else None,
                "status": None,
            },
            "collection_method": subscription["collection_method"],
            "default_tax_rates": list(subscription["default_tax_rates"]),
            "description": subscription["description"],
            "discounts": own,
            "parent": subscription_parent(subscription),
            "_days_until_due": subscription["days_until_due"],
        }
    chosen = currency or (subscription or {}).get("currency") or customer["currency"] or "usd"
    invoice = new_invoice(
        state,
        customer=customer,
        currency=chosen,
        reason=reason,
        period=period,
        **{"customer_tax_ids": tax_ids_of(state, customer["id"]), **shared, **fields},
    )
    invoice["lines"]["data"] = [*lines, *(_pulled(state, invoice, subscription) if pull else [])]
    add_up(state, invoice)
    if wait and invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = state.now() + DRAFT_FOR
        state.agenda.set("invoice.finalize", invoice["id"], state.now() + DRAFT_FOR)
    state.create(invoice, event="invoice.created")
    if subscription is not None:
        subscription["latest_invoice"] = invoice["id"]
        state.put(subscription)
        discounting.spent(state, subscription)
    return invoice


def _pulled(state: Sandbox, invoice: Object, subscription: Object | None) -> list[Object]:
    found = pending(
        state,
        customer=invoice["customer"],
        subscription=subscription["id"] if subscription else None,
        currency=invoice["currency"],
    )
    lines = [line for item in found for line in lines_of(state, item)]
    for item in found:
        item["invoice"] = invoice["id"]
        state.put(item)
    return lines


def finalize(state: Sandbox, invoice: Object, *, paid_by: Object | None = None) -> None:
    """Number and open a draft, apply the customer's balance and prepare the payment of what is due.

    One with nothing due is paid at once. `paid_by` is a payment intent that has brought the money already,
    as it does where Checkout takes the payment first. Raises ApiError (400) where the customer is deleted.
    """
    customer = state.get_customer(invoice["customer"])
    refresh_usage(state, invoice)
    add_up(state, invoice)
    settle_debits(state, invoice)
    state.agenda.drop("invoice.finalize", identifier=invoice["id"])
    invoice["number"] = (
        invoice["number"] or f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    )
    customer["next_invoice_sequence"] += 1
    customer["currency"] = customer["currency"] or invoice["currency"]
    state.put(customer)
    _apply_balance(state, invoice, customer)
    now = state.now()
    invoice["status"] = "open"
    invoice["automatically_finalizes_at"] = None
    invoice["effective_at"] = invoice["effective_at"] or now
    invoice["status_transitions"]["finalized_at"] = now
    invoice["hosted_invoice_url"] = f"{state.base_url}/i/{invoice['_secret']}"
    invoice["invoice_pdf"] = f"{state.base_url}/i/{invoice['_secret']}/pdf"
    if invoice["collection_method"] == "send_invoice" and invoice["due_date"] is None:
        invoice["due_date"] = now + (invoice["_days_until_due"] or 0) * 86400
    if invoice["amount_due"] > 0:
        _prepare_payment(state, invoice, paid_by)
    state.put(invoice)
    state.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0 or paid_by is not None:
        mark_paid(state, invoice)
    elif invoice["due_date"] is not None:
        state.agenda.set("invoice.overdue", invoice["id"], invoice["due_date"])


def _apply_balance(state: Sandbox, invoice: Object, customer: Object) -> None:
    start = invoice["starting_balance"]
    invoice["ending_balance"] = after_balance(invoice)[1]
    moved = invoice["ending_balance"] - start
    if moved:
        small = invoice["ending_balance"] > 0 and invoice["total"] > 0
        change_balance(
            state,
            customer,
            amount=moved,
            type="invoice_too_small" if small else "applied_to_invoice",
            currency=invoice["currency"],
            invoice=invoice["id"],
        )
    # Told of while it was still a draft, a balance may have moved since: what is due follows it.
    invoice["_balance_moved"] = moved


def _purpose(invoice: Object) -> str:
    created = invoice["billing_reason"] == "subscription_create"
    if subscription_of(invoice) is None:
        return "Payment for Invoice"
    return "Subscription creation" if created else "Subscription update"


def _prepare_payment(state: Sandbox, invoice: Object, paid_by: Object | None) -> None:
    intent = paid_by
    if intent is None:
        intent = new_intent(
            state,
            amount=invoice["amount_due"],
            currency=invoice["currency"],
            customer=invoice["customer"],
            description=_purpose(invoice),
            invoice=invoice["id"],
            # Only a subscription will charge the card again.
            setup_future_usage="off_session" if subscription_of(invoice) else None,
        )
    else:
        intent["_invoice"] = invoice["id"]
        state.put(intent)
        invoice["attempt_count"] = 1
    invoice["_intent"] = intent["id"]
    _invoice_payment(state, invoice, intent)


def _invoice_payment(state: Sandbox, invoice: Object, intent: Object) -> None:
    state.put(
        state.new(
            "invoice_payment",
            amount_paid=None,
            amount_requested=invoice["amount_due"],
            currency=invoice["currency"],
            invoice=invoice["id"],
            is_default=True,
            payment={"payment_intent": intent["id"], "type": "payment_intent"},
            status="open",
            status_transitions={"canceled_at": None, "paid_at": None},
        )
    )


def collect(state: Sandbox, invoice: Object, method: Object, *, off_session: bool = False) -> Decline | None:
    """Try a card on an open or written-off invoice; a paid one is left alone. Returns a decline's reason or None.

    None may also mean that the payer has to authenticate first: the invoice's status tells.
    """
    if invoice["status"] not in ("open", "uncollectible"):
        return None
    return confirm(state, state.get("payment_intent", invoice["_intent"]), method, off_session=off_session)


def mark_paid(state: Sandbox, invoice: Object, *, paid_out_of_band: bool = False) -> None:
    """Close an open invoice as paid and tell who listens. What is left to pay counts as paid."""
    left = invoice["amount_remaining"]
    invoice.update(
        status="paid",
        attempted=True,
        auto_advance=False,
        amount_paid=invoice["amount_paid"] + (0 if paid_out_of_band else left),
        amount_paid_off_stripe=left if paid_out_of_band else 0,
        amount_remaining=0,
        next_payment_attempt=None,
    )
    invoice["status_transitions"]["paid_at"] = state.now()
    state.agenda.drop("invoice.retry", "invoice.overdue", identifier=invoice["id"])
    state.put(invoice)
    if paid_out_of_band:
        give_up_payment(state, invoice)
    state.emit("invoice.paid", invoice)
    if not paid_out_of_band:
        # Money that came by another way was no payment attempt.
        state.emit("invoice.payment_succeeded", invoice)
    for row in list(state.every("invoice_payment")):
        if row["invoice"] == invoice["id"] and row["status"] == "open":
            payment = state.get("invoice_payment", row["id"])
            payment.update(status="paid", amount_paid=payment["amount_requested"])
            payment["status_transitions"]["paid_at"] = state.now()
            state.put(payment)
            state.emit("invoice_payment.paid", payment)
    for heard in _PAID:
        heard(state, invoice)


def give_up_payment(state: Sandbox, invoice: Object) -> None:
    """Cancel what was prepared to pay an invoice."""
    intent = state.find("payment_intent", invoice["_intent"]) if invoice["_intent"] else None
    if intent is not None and intent["status"] not in ("succeeded", "canceled"):
        intent.update(status="canceled", canceled_at=state.now(), cancellation_reason="void_invoice")
        state.put(intent)
        state.emit("payment_intent.canceled", intent)
    for row in list(state.every("invoice_payment")):
        if row["invoice"] == invoice["id"] and row["status"] == "open":
            payment = state.get("invoice_payment", row["id"])
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = state.now()
            state.put(payment)


def void(state: Sandbox, invoice: Object) -> None:
    """Void an open or uncollectible invoice, give up its payment and give back the balance it used."""
    invoice.update(status="void", auto_advance=False, next_payment_attempt=None)
    invoice["status_transitions"]["voided_at"] = state.now()
    state.agenda.drop("invoice.retry", "invoice.overdue", "invoice.finalize", identifier=invoice["id"])
    state.put(invoice)
    moved = invoice.get("_balance_moved", 0)
    customer = state.get("customer", invoice["customer"])
    if moved and not customer.get("deleted"):
        change_balance(
            state,
            customer,
            amount=-moved,
            type="unapplied_from_invoice",
            currency=invoice["currency"],
            invoice=invoice["id"],
        )
    state.emit("invoice.voided", invoice)
    give_up_payment(state, invoice)


def mark_uncollectible(state: Sandbox, invoice: Object) -> None:
    """Write an open invoice off; it may still be paid."""
    invoice.update(status="uncollectible", auto_advance=False, next_payment_attempt=None)
    invoice["status_transitions"]["marked_uncollectible_at"] = state.now()
    state.agenda.drop("invoice.retry", "invoice.overdue", identifier=invoice["id"])
    state.put(invoice)
    state.emit("invoice.marked_uncollectible", invoice)
