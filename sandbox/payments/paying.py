"""Taking money: a payment intent, the charge each try makes, and what either tells an invoice."""

from collections.abc import Callable
from typing import Any

from sandbox.agenda import due
from sandbox.faults import forced_decline
from sandbox.ids import random_text
from sandbox.payments import challenge
from sandbox.payments.cards import AUTHENTICATION_REQUIRED, Decline, asks_authentication, decline_of
from sandbox.payments.charging import capture_charge, new_charge, release_charge
from sandbox.payments.methods import keep_after_payment
from sandbox.ranks import EXPIRY
from sandbox.state import Sandbox
from sandbox.store import Object

# How long a bank holds an amount that is not captured.
HELD_FOR = 7 * 86400

AUTHENTICATION_FAILED = Decline(
    "payment_intent_authentication_failure",
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
    "PaymentMethod to attempt to fulfill this PaymentIntent again.",
)

Heard = Callable[[Sandbox, Object, Decline | None], None]
_HEARD: list[Heard] = []


def when_settled(heard: Heard) -> Heard:
    """Register who is told of each try on an intent: `heard(sandbox, intent, decline)`.

    The intent's status says what came of it: succeeded, requires_capture, requires_payment_method (with the
    reason it was declined) or requires_action, where nothing is charged before the holder has proved who
    they are.
    """
    _HEARD.append(heard)
    return heard


def tell(state: Sandbox, intent: Object, decline: Decline | None) -> None:
    for heard in _HEARD:
        heard(state, intent, decline)


def new_intent(
    state: Sandbox,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    description: str | None = None,
    invoice: str | None = None,
    setup_future_usage: str | None = "off_session",
    **fields: Any,
) -> Object:
    """Store and return a payment intent that waits for a card; `invoice` is what it is to pay, if any.

    With `setup_future_usage` the card that pays is saved to the customer.
    """
    identifier = state.new_id("payment_intent")
    intent = state.new(
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
        setup_future_usage=setup_future_usage,
        shipping=None,
        statement_descriptor=None,
        statement_descriptor_suffix=None,
        status="requires_payment_method",
        transfer_data=None,
        transfer_group=None,
        _invoice=invoice,
        _return_url=None,
        _use_stripe_sdk=False,
    )
    intent.update(fields)
    return state.create(intent, event="payment_intent.created")


def confirm(state: Sandbox, intent: Object, method: Object, *, off_session: bool = False) -> Decline | None:
    """Try a card on an intent, and tell who listens. Returns why the card was declined, else None.

    None with the status requires_action means that the card's holder has to authenticate first: nothing is
    charged yet. With the holder away (`off_session`) that is a decline, save for an invoice's intent, which
    waits for them. A charge, where one is made, and the events are left behind either way.
    """
    decline = _try(state, intent, method, off_session=off_session)
    tell(state, intent, decline)
    return decline


def _try(state: Sandbox, intent: Object, method: Object, *, off_session: bool) -> Decline | None:
    intent["next_action"] = None
    wish = intent["payment_method_options"]["card"]["request_three_d_secure"]
    asked = asks_authentication(method, off_session=off_session, requested=wish != "automatic")
    if asked and off_session and intent["_invoice"] is None:
        return charge(state, intent, method, decline=AUTHENTICATION_REQUIRED)
    if asked:
        intent.update(status="requires_action", payment_method=method["id"], last_payment_error=None)
        intent["next_action"] = challenge.next_action(state, intent)
        state.put(intent)
        state.emit("payment_intent.requires_action", intent)
        return None
    return charge(state, intent, method, decline=forced_decline(state) or decline_of(method))


def charge_authenticated(state: Sandbox, intent: Object, method: Object) -> Decline | None:
    """Charge the card of an intent whose challenge was passed. Returns why that was declined, else None."""
    decline = charge(
        state, intent, method, decline=forced_decline(state) or decline_of(method), authenticated=True
    )
    if intent["setup_future_usage"] == "off_session":
        # The bank has seen the holder agree to later charges, whatever came of this one.
        method["_set_up"] = True
        state.put(method)
    return decline


def charge(
    state: Sandbox, intent: Object, method: Object, *, decline: Decline | None, authenticated: bool = False
) -> Decline | None:
    """Make the charge of a try and bring the intent up to date with it. Returns `decline`."""
    made = new_charge(state, intent, method, decline=decline, authenticated=authenticated)
    intent["latest_charge"] = made["id"]
    intent["next_action"] = None
    if decline is not None:
        state.emit("charge.failed", made)
        fail(state, intent, method, decline, charge=made["id"])
        return decline
    held = not made["captured"]
    intent.update(
        status="requires_capture" if held else "succeeded",
        amount_capturable=intent["amount"] if held else 0,
        amount_received=0 if held else intent["amount"],
        last_payment_error=None,
        payment_method=method["id"],
    )
    state.put(intent)
    keep_after_payment(state, method, intent=intent)
    state.emit("charge.succeeded", made)
    if held:
        state.agenda.set("payment_intent.expire", intent["id"], state.now() + HELD_FOR)
        state.emit("payment_intent.amount_capturable_updated", intent)
    else:
        state.emit("payment_intent.succeeded", intent)
    return None


def fail(state: Sandbox, intent: Object, method: Object, decline: Decline, **error: Any) -> None:
    """Send an intent back to waiting for a card, with the reason. `error` is more of last_payment_error."""
    shown = {**decline.error().body["error"], **error, "payment_method": state.render(method)}
    intent.update(
        status="requires_payment_method",
        payment_method=None,
        next_action=None,
        last_payment_error=dict(sorted(shown.items())),
    )
    state.put(intent)
    state.emit("payment_intent.payment_failed", intent)


def capture(state: Sandbox, intent: Object, *, amount: int) -> None:
    """Take `amount` of what an intent holds; the rest is given back."""
    state.agenda.drop("payment_intent.expire", identifier=intent["id"])
    capture_charge(state, state.get("charge", intent["latest_charge"]), amount=amount)
    intent.update(status="succeeded", amount_capturable=0, amount_received=amount)
    state.put(intent)
    state.emit("payment_intent.succeeded", intent)
    tell(state, intent, None)


def cancel(
    state: Sandbox, intent: Object, *, reason: str | None, charge_event: str = "charge.refunded"
) -> None:
    """Cancel an intent that has not succeeded, and give back what it holds."""
    state.agenda.drop("payment_intent.expire", identifier=intent["id"])
    if intent["status"] == "requires_capture":
        release_charge(state, state.get("charge", intent["latest_charge"]), event=charge_event)
    intent.update(
        status="canceled",
        canceled_at=state.now(),
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
    )
    state.put(intent)
    state.emit("payment_intent.canceled", intent)


@due("payment_intent.expire", rank=EXPIRY)
def expire_hold(state: Sandbox, identifier: str) -> None:
    """Let go of an amount that was held and never captured."""
    intent = state.get("payment_intent", identifier)
    if intent["status"] == "requires_capture":
        cancel(state, intent, reason="automatic", charge_event="charge.expired")


def error_of(state: Sandbox, intent: Object, decline: Decline) -> dict[str, Any]:
    """Return what an API answer about a declined try holds besides the decline: the charge, card and intent."""
    known = intent["last_payment_error"] or {}
    return {
        "charge": known.get("charge"),
        "payment_intent": state.render(intent),
        "payment_method": known.get("payment_method"),
    }


def set_amount(state: Sandbox, intent: Object, amount: int) -> None:
    """Have an intent that is not paid yet ask for another amount, as when its invoice is credited."""
    if intent["status"] in ("succeeded", "canceled"):
        return
    intent["amount"] = amount
    state.put(intent)
