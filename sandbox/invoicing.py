"""Invoices of subscriptions: making them, finalizing them, collecting on them."""

from typing import Any

from sandbox.cards import Decline
from sandbox.ids import random_text
from sandbox.paying import confirm, new_intent
from sandbox.state import Sandbox
from sandbox.store import Object


def new_line(
    state: Sandbox,
    *,
    invoice: str | None,
    item: Object,
    price: Object,
    amount: int,
    quantity: int | None,
    period: tuple[int, int],
    description: str,
    proration: bool = False,
) -> Object:
    """Return an invoice line of a subscription item; `amount` is in minor units and may be negative."""
    return {
        "id": state.new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": description,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": invoice,
        "livemode": False,
        "metadata": {},
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": None,
                "proration": proration,
                "proration_details": {"credited_items": None} if proration else None,
                "subscription": item["subscription"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": None if quantity is None else str(quantity),
        "subscription": item["subscription"],
        "subtotal": amount,
        "taxes": [],
    }


def draft_invoice(
    state: Sandbox,
    *,
    customer: Object,
    subscription: Object,
    lines: list[Object],
    reason: str,
    period: tuple[int, int],
) -> Object:
    """Store and return a draft invoice. Raises nothing: what is on it has been checked before."""
    identifier = state.new_id("invoice")
    total = sum(line["amount"] for line in lines)
    for line in lines:
        line["invoice"] = identifier
    due = max(total, 0)
    return state.create(
        state.new(
            "invoice",
            id=identifier,
            account_country="US",
            account_name="Sandbox",
            account_tax_ids=None,
            amount_due=due,
            amount_overpaid=0,
            amount_paid=0,
            amount_paid_off_stripe=0,
            amount_remaining=due,
            amount_shipping=0,
            application=None,
            attempt_count=0,
            attempted=False,
            auto_advance=True,
            automatic_tax={
                "disabled_reason": None,
                "enabled": False,
                "liability": None,
                "provider": None,
                "status": None,
            },
            automatically_finalizes_at=None,
            billing_reason=reason,
            collection_method="charge_automatically",
            currency=subscription["currency"],
            custom_fields=None,
            customer=customer["id"],
            customer_account=None,
            customer_address=customer["address"],
            customer_email=customer["email"],
            customer_name=customer["name"],
            customer_phone=customer["phone"],
            customer_shipping=customer["shipping"],
            customer_tax_exempt=customer["tax_exempt"],
            customer_tax_ids=[],
            default_payment_method=None,
            default_source=None,
            default_tax_rates=[],
            description=None,
            discounts=[],
            due_date=None,
            effective_at=None,
            ending_balance=None,
            footer=None,
            from_invoice=None,
            hosted_invoice_url=None,
            invoice_pdf=None,
            issuer={"type": "self"},
            last_finalization_error=None,
            latest_revision=None,
            lines={
                "object": "list",
                "data": lines,
                "has_more": False,
                "total_count": len(lines),
                "url": f"/v1/invoices/{identifier}/lines",
            },
            metadata={},
            next_payment_attempt=None,
            number=None,
            on_behalf_of=None,
            parent={
                "quote_details": None,
                "subscription_details": {
                    "metadata": dict(subscription["metadata"]),
                    "subscription": subscription["id"],
                },
                "type": "subscription_details",
            },
            payment_settings={
                "default_mandate": None,
                "payment_method_options": None,
                "payment_method_types": None,
            },
            period_end=period[1],
            period_start=period[0],
            post_payment_credit_notes_amount=0,
            pre_payment_credit_notes_amount=0,
            receipt_number=None,
            rendering=None,
            shipping_cost=None,
            shipping_details=None,
            starting_balance=0,
            statement_descriptor=None,
            status="draft",
            status_transitions={
                "finalized_at": None,
                "marked_uncollectible_at": None,
                "paid_at": None,
                "voided_at": None,
            },
            subtotal=total,
            subtotal_excluding_tax=total,
            test_clock=None,
            total=total,
            total_discount_amounts=[],
            total_excluding_tax=total,
            total_pretax_credit_amounts=[],
            total_taxes=[],
            webhooks_delivered_at=state.now(),
            _intent=None,
            _secret=random_text(40),
        ),
        event="invoice.created",
    )


def finalize(state: Sandbox, invoice: Object) -> None:
    """Number the invoice and open it; where money is due, prepare its payment."""
    customer = state.get("customer", invoice["customer"])
    invoice["number"] = f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}"
    customer["next_invoice_sequence"] += 1
    customer["currency"] = customer["currency"] or invoice["currency"]
    state.put(customer)
    invoice["status"] = "open"
    invoice["effective_at"] = invoice["status_transitions"]["finalized_at"] = state.now()
    invoice["ending_balance"] = 0
    invoice["hosted_invoice_url"] = f"{state.base_url}/i/{invoice['_secret']}"
    invoice["invoice_pdf"] = f"{state.base_url}/i/{invoice['_secret']}/pdf"
    if invoice["amount_due"] > 0:
        intent = new_intent(
            state,
            amount=invoice["amount_due"],
            currency=invoice["currency"],
            customer=invoice["customer"],
            description=_purpose(invoice),
        )
        invoice["_intent"] = intent["id"]
        _invoice_payment(state, invoice, intent)
    state.put(invoice)
    state.emit("invoice.finalized", invoice)


def _purpose(invoice: Object) -> str:
    created = invoice["billing_reason"] == "subscription_create"
    return "Subscription creation" if created else "Subscription update"


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


def collect(state: Sandbox, invoice: Object, method: Object | None) -> Decline | None:
    """Pay an open invoice with a card; one of nothing needs no card. Returns why it failed, else None."""
    if invoice["amount_due"] == 0:
        _mark_paid(state, invoice)
        return None
    if method is None:
        raise ValueError("an invoice with money due is collected from a card")
    decline = confirm(state, state.get("payment_intent", invoice["_intent"]), method)
    invoice["attempt_count"] += 1
    invoice["attempted"] = True
    if decline is None:
        _mark_paid(state, invoice)
        return None
    state.put(invoice)
    state.emit("invoice.payment_failed", invoice)
    return decline


def _mark_paid(state: Sandbox, invoice: Object) -> None:
    invoice.update(
        status="paid",
        attempted=True,
        auto_advance=False,
        amount_paid=invoice["amount_due"],
        amount_remaining=0,
    )
    invoice["status_transitions"]["paid_at"] = state.now()
    state.put(invoice)
    state.emit("invoice.paid", invoice)
    state.emit("invoice.payment_succeeded", invoice)
    for row in list(state.every("invoice_payment")):
        if row["invoice"] == invoice["id"]:
            payment = state.get("invoice_payment", row["id"])
            payment.update(status="paid", amount_paid=payment["amount_requested"])
            payment["status_transitions"]["paid_at"] = state.now()
            state.put(payment)
            state.emit("invoice_payment.paid", payment)


def void(state: Sandbox, invoice: Object) -> None:
    """Void an open invoice and give up its payment."""
    invoice.update(status="void", auto_advance=False)
    invoice["status_transitions"]["voided_at"] = state.now()
    state.put(invoice)
    state.emit("invoice.voided", invoice)
    intent: dict[str, Any] | None = (
        state.find("payment_intent", invoice["_intent"]) if invoice["_intent"] else None
    )
    if intent is not None and intent["status"] != "succeeded":
        intent.update(status="canceled", canceled_at=state.now(), cancellation_reason="void_invoice")
        state.put(intent)
        state.emit("payment_intent.canceled", intent)
