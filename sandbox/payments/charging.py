"""Charges: one for each try of a card, and the balance transaction of the money that came or went."""

import decimal
from typing import Any

from sandbox.catalog.amounts import rounded
from sandbox.ids import random_text
from sandbox.payments.cards import Decline
from sandbox.state import Sandbox
from sandbox.store import Object

# What Stripe asks of a US account for a domestic card.
FEE_PERCENT, FEE_FIXED = decimal.Decimal("2.9"), 30
AVAILABLE_AFTER = 2 * 86400


def new_charge(
    state: Sandbox, intent: Object, method: Object, *, decline: Decline | None, authenticated: bool = False
) -> Object:
    """Store and return the charge of a try: failed, succeeded, or held where the intent is captured by hand.

    Its event is left to the caller, who has the intent to bring up to date first.
    """
    amount = intent["amount"]
    captured = decline is None and intent["capture_method"] != "manual"
    charge = state.new(
        "charge",
        amount=amount,
        amount_captured=amount if captured else 0,
        amount_refunded=0,
        application=None,
        application_fee=None,
        application_fee_amount=None,
        balance_transaction=None,
        billing_details=method["billing_details"],
        calculated_statement_descriptor="SANDBOX",
        captured=captured,
        currency=intent["currency"],
        customer=intent["customer"],
        description=intent["description"],
        disputed=False,
        failure_balance_transaction=None,
        failure_code=decline.code if decline else None,
        failure_message=decline.message if decline else None,
        fraud_details={},
        metadata=dict(intent["metadata"]),
        on_behalf_of=None,
        outcome=_outcome(decline),
        paid=decline is None,
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details={
            "card": _card_details(method["card"], amount, authenticated=authenticated),
            "type": "card",
        },
        receipt_email=intent["receipt_email"],
        receipt_number=None,
        receipt_url=None,
        refunded=False,
        review=None,
        shipping=intent["shipping"],
        source_transfer=None,
        statement_descriptor=intent["statement_descriptor"],
        statement_descriptor_suffix=intent["statement_descriptor_suffix"],
        status="failed" if decline else "succeeded",
        transfer_data=None,
        transfer_group=intent["transfer_group"],
        _number=method["_number"],
    )
    if captured:
        charge["balance_transaction"] = money_in(state, charge)["id"]
    return state.put(charge)


def capture_charge(state: Sandbox, charge: Object, *, amount: int) -> None:
    """Take what was held, or part of it: the rest goes back to the card at once."""
    charge.update(captured=True, amount_captured=amount, amount_refunded=charge["amount"] - amount)
    charge["balance_transaction"] = money_in(state, charge)["id"]
    state.put(charge)
    state.emit("charge.captured", charge)


def release_charge(state: Sandbox, charge: Object, *, event: str) -> None:
    """Give back what was held and never captured."""
    charge.update(refunded=True, amount_refunded=charge["amount"])
    state.put(charge)
    state.emit(event, charge)


def money_in(state: Sandbox, charge: Object) -> Object:
    """Store and return the balance transaction of a captured charge, less Stripe's fee."""
    amount = charge["amount_captured"]
    fee = min(rounded(amount * FEE_PERCENT / 100) + FEE_FIXED, amount)
    return _balance_transaction(
        state, charge, amount=amount, fee=fee, type="charge", description=charge["description"]
    )


def money_out(state: Sandbox, refund: Object, *, type: str = "refund", amount: int | None = None) -> Object:
    """Store and return the balance transaction of a refund, or of one that failed. The fee stays with Stripe."""
    return _balance_transaction(
        state,
        refund,
        amount=-refund["amount"] if amount is None else amount,
        fee=0,
        type=type,
        description="REFUND FOR CHARGE",
    )


def _balance_transaction(
    state: Sandbox, source: Object, *, amount: int, fee: int, type: str, description: str | None
) -> Object:
    row = state.new(
        "balance_transaction",
        amount=amount,
        available_on=state.now() + AVAILABLE_AFTER,
        balance_type="payments",
        currency=source["currency"],
        description=description,
        exchange_rate=None,
        fee=fee,
        fee_details=[
            {
                "amount": fee,
                "application": None,
                "currency": source["currency"],
                "description": "Stripe processing fees",
                "type": "stripe_fee",
            }
        ]
        if fee
        else [],
        net=amount - fee,
        reporting_category=type,
        source=source["id"],
        status="pending",
        type=type,
    )
    del row["livemode"]
    return state.put(row)


def _outcome(decline: Decline | None) -> dict[str, Any]:
    base = {"advice_code": None, "network_advice_code": None, "risk_level": "normal", "risk_score": 20}
    if decline is None:
        return {
            **base,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        **base,
        "network_decline_code": "01",
        "network_status": "declined_by_network",
        "reason": decline.decline_code,
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }


def _card_details(card: Object, amount: int, *, authenticated: bool) -> dict[str, Any]:
    return {
        "amount_authorized": amount,
        "authorization_code": None,
        "brand": card["brand"],
        "checks": card["checks"],
        "country": card["country"],
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card["last4"],
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": random_text(15),
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": three_d_secure() if authenticated else None,
        "wallet": None,
    }


def three_d_secure() -> dict[str, Any]:
    """Return how a passed challenge is recorded on the charge or set-up that it was for."""
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }
