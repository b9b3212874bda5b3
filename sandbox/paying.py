"""Taking money: a payment intent, the charge each try makes, and what either tells an invoice."""

from collections.abc import Callable
from typing import Any

from sandbox.cards import DECLINES, FAILS_ON_CHARGE, NEEDS_AUTHENTICATION, Decline
from sandbox.ids import random_text
from sandbox.state import Sandbox
from sandbox.store import Object

AUTHENTICATION = Decline(
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)


Heard = Callable[[Sandbox, Object, Decline | None], None]
_HEARD: list[Heard] = []


def when_settled(heard: Heard) -> Heard:
    """Register who is told of each try on an intent: `heard(sandbox, intent, decline)`.

    The intent's status says what came of it: succeeded, requires_payment_method (with the reason it
    was declined) or requires_action.
    """
    _HEARD.append(heard)
    return heard


def new_intent(
    state: Sandbox,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    description: str | None = None,
    invoice: str | None = None,
) -> Object:
    """Store and return a payment intent that waits for a card; `invoice` is what it is to pay, if any."""
    identifier = state.new_id("payment_intent")
    return state.create(
        state.new(
            "payment_intent",
            id=identifier,
            amount=amount,
            amount_capturable=0,
            amount_details={"tip": {}},
            amount_received=0,
            application=None,
            application_fee_amount=None,
            automatic_payment_methods=None,
            canceled_at=None,
            cancellation_reason=None,
            capture_method="automatic",
            client_secret=f"{identifier}_secret_{random_text(25)}",
            confirmation_method="automatic",
            currency=currency,
            customer=customer,
            customer_account=None,
            description=description,
            excluded_payment_method_types=None,
            last_payment_error=None,
            latest_charge=None,
            metadata={},
            next_action=None,
            on_behalf_of=None,
            payment_method=None,
            payment_method_configuration_details=None,
            payment_method_options={
                "card": {
                    "installments": None,
                    "mandate_options": None,
                    "network": None,
                    "request_three_d_secure": "automatic",
                }
            },
            payment_method_types=["card"],
            processing=None,
            receipt_email=None,
            review=None,
            setup_future_usage="off_session",
            shipping=None,
            statement_descriptor=None,
            statement_descriptor_suffix=None,
            status="requires_payment_method",
            transfer_data=None,
            transfer_group=None,
            _invoice=invoice,
        ),
        event="payment_intent.created",
    )


def decline_of(method: Object) -> Decline | None:
    """Return why a charge to this card fails, None for a card that works."""
    number = method["_number"]
    if number in NEEDS_AUTHENTICATION:
        return AUTHENTICATION
    return DECLINES.get(number) or FAILS_ON_CHARGE.get(number)


def confirm(state: Sandbox, intent: Object, method: Object) -> Decline | None:
    """Try a card on an intent, and tell who listens. Returns None when the money came, else why it did not.

    Either way a charge and its events are left behind.
    """
    decline = _try(state, intent, method)
    for heard in _HEARD:
        heard(state, intent, decline)
    return decline


def _try(state: Sandbox, intent: Object, method: Object) -> Decline | None:
    decline = decline_of(method)
    charge = _charge(state, intent, method, decline=decline)
    intent["latest_charge"] = charge["id"]
    if decline is not None:
        shown = state.render(method)
        intent.update(
            status="requires_payment_method",
            payment_method=None,
            last_payment_error={**decline.error(charge=charge["id"]).body["error"], "payment_method": shown},
        )
        state.put(intent)
        state.emit("charge.failed", charge)
        state.emit("payment_intent.payment_failed", intent)
        return decline
    intent.update(
        status="succeeded",
        amount_received=intent["amount"],
        last_payment_error=None,
        payment_method=method["id"],
    )
    state.put(intent)
    state.emit("charge.succeeded", charge)
    state.emit("payment_intent.succeeded", intent)
    return None


def _charge(state: Sandbox, intent: Object, method: Object, *, decline: Decline | None) -> Object:
    card = method["card"]
    amount = intent["amount"]
    identifier = state.new_id("charge")
    return state.put(
        state.new(
            "charge",
            id=identifier,
            amount=amount,
            amount_captured=0 if decline else amount,
            amount_refunded=0,
            application=None,
            application_fee=None,
            application_fee_amount=None,
            balance_transaction=None,
            billing_details=method["billing_details"],
            calculated_statement_descriptor="SANDBOX",
            captured=decline is None,
            currency=intent["currency"],
            customer=intent["customer"],
            description=intent["description"],
            disputed=False,
            failure_balance_transaction=None,
            failure_code=decline.code if decline else None,
            failure_message=decline.message if decline else None,
            fraud_details={},
            metadata={},
            on_behalf_of=None,
            outcome=_outcome(decline),
            paid=decline is None,
            payment_intent=intent["id"],
            payment_method=method["id"],
            payment_method_details={"card": _card_details(card, amount), "type": "card"},
            receipt_email=None,
            receipt_number=None,
            receipt_url=None,
            refunded=False,
            review=None,
            shipping=None,
            source_transfer=None,
            statement_descriptor=None,
            statement_descriptor_suffix=None,
            status="failed" if decline else "succeeded",
            transfer_data=None,
            transfer_group=None,
        )
    )


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


def _card_details(card: Object, amount: int) -> dict[str, Any]:
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
        "three_d_secure": None,
        "wallet": None,
    }
