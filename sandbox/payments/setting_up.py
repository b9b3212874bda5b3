"""Saving a card without charging it: a setup intent and what came of each try."""

from collections.abc import Callable
from typing import Any

from sandbox.faults import forced_decline
from sandbox.ids import random_text
from sandbox.payments import challenge
from sandbox.payments.cards import AUTHENTICATION, Decline, decline_of
from sandbox.payments.charging import three_d_secure
from sandbox.payments.methods import keep
from sandbox.state import Sandbox
from sandbox.store import Object

AUTHENTICATION_FAILED = Decline(
    "setup_intent_authentication_failure",
    "The latest attempt to set up the payment method has failed because authentication failed.",
)

Heard = Callable[[Sandbox, Object, Decline | None], None]
_HEARD: list[Heard] = []


def when_set_up(heard: Heard) -> Heard:
    """Register who is told when a try to set up a card is over: `heard(sandbox, setup_intent, decline)`."""
    _HEARD.append(heard)
    return heard


def _tell(state: Sandbox, intent: Object, decline: Decline | None) -> None:
    for heard in _HEARD:
        heard(state, intent, decline)


def new_setup_intent(
    state: Sandbox, *, customer: str | None, usage: str = "off_session", **fields: Any
) -> Object:
    """Store and return a setup intent that waits for a card."""
    identifier = state.new_id("setup_intent")
    intent = state.new(
        "setup_intent",
        id=identifier,
        application=None,
        automatic_payment_methods=None,
        cancellation_reason=None,
        client_secret=f"{identifier}_secret_{random_text(25)}",
        customer=customer,
        customer_account=None,
        description=None,
        excluded_payment_method_types=None,
        flow_directions=None,
        last_setup_error=None,
        latest_attempt=None,
        mandate=None,
        metadata={},
        next_action=None,
        on_behalf_of=None,
        payment_method=None,
        payment_method_configuration_details=None,
        payment_method_options={
            "card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
        },
        payment_method_types=["card"],
        single_use_mandate=None,
        status="requires_payment_method",
        usage=usage,
        _return_url=None,
        _use_stripe_sdk=False,
    )
    intent.update(fields)
    return state.create(intent, event="setup_intent.created")


def confirm_setup(state: Sandbox, intent: Object, method: Object) -> Decline | None:
    """Try to set up a card. Returns why it was declined, else None.

    None with the status requires_action means that the card's holder has to authenticate first.
    """
    intent["next_action"] = None
    decline = forced_decline(state) or decline_of(method, charged=False)
    if decline is not None:
        return fail_setup(state, intent, method, decline)
    if method["_number"] in AUTHENTICATION:
        intent.update(status="requires_action", payment_method=method["id"], last_setup_error=None)
        intent["latest_attempt"] = _attempt(state, intent, method, status="requires_action")["id"]
        intent["next_action"] = challenge.next_action(state, intent)
        state.put(intent)
        state.emit("setup_intent.requires_action", intent)
        return None
    succeed_setup(state, intent, method, authenticated=False)
    return None


def succeed_setup(state: Sandbox, intent: Object, method: Object, *, authenticated: bool) -> None:
    """Settle a setup intent, and give its customer the card."""
    intent["latest_attempt"] = _attempt(
        state, intent, method, status="succeeded", authenticated=authenticated
    )["id"]
    intent.update(status="succeeded", payment_method=method["id"], next_action=None, last_setup_error=None)
    if authenticated and intent["usage"] == "off_session":
        method["_set_up"] = True
        state.put(method)
    keep(state, method, customer=intent["customer"])
    state.put(intent)
    state.emit("setup_intent.succeeded", intent)
    _tell(state, intent, None)


def fail_setup(state: Sandbox, intent: Object, method: Object, decline: Decline, **error: Any) -> Decline:
    """Send a setup intent back to waiting for a card, with the reason. `error` is more of last_setup_error."""
    shown = {**decline.error().body["error"], **error, "payment_method": state.render(method)}
    reason = dict(sorted(shown.items()))
    intent["latest_attempt"] = _attempt(state, intent, method, status="failed", error=reason)["id"]
    intent.update(
        status="requires_payment_method", payment_method=None, next_action=None, last_setup_error=reason
    )
    state.put(intent)
    state.emit("setup_intent.setup_failed", intent)
    _tell(state, intent, decline)
    return decline


def cancel_setup(state: Sandbox, intent: Object, *, reason: str | None) -> None:
    intent.update(status="canceled", cancellation_reason=reason, next_action=None)
    state.put(intent)
    state.emit("setup_intent.canceled", intent)


def _attempt(
    state: Sandbox,
    intent: Object,
    method: Object,
    *,
    status: str,
    authenticated: bool = False,
    error: Object | None = None,
) -> Object:
    """Store and return the try that this is, or the end of one that was waiting for a challenge."""
    waiting = state.find("setup_attempt", intent["latest_attempt"] or "")
    if waiting is not None and waiting["status"] == "requires_action":
        if waiting["payment_method"] == method["id"] and status != "requires_action":
            waiting.update(status=status, setup_error=error)
            waiting["payment_method_details"]["card"]["three_d_secure"] = (
                three_d_secure() if authenticated else None
            )
            return state.put(waiting)
        waiting["status"] = "abandoned"
        state.put(waiting)
    card = method["card"]
    return state.put(
        state.new(
            "setup_attempt",
            application=None,
            customer=intent["customer"],
            customer_account=None,
            flow_directions=None,
            on_behalf_of=None,
            payment_method=method["id"],
            payment_method_details={
                "card": {
                    **{
                        name: card[name]
                        for name in (
                            "brand",
                            "checks",
                            "country",
                            "exp_month",
                            "exp_year",
                            "fingerprint",
                            "funding",
                            "last4",
                        )
                    },
                    "network": card["brand"],
                    "three_d_secure": three_d_secure() if authenticated else None,
                    "wallet": None,
                },
                "type": "card",
            },
            setup_error=error,
            setup_intent=intent["id"],
            status=status,
            usage=intent["usage"],
        )
    )


def error_of(state: Sandbox, intent: Object) -> dict[str, Any]:
    """Return what an API answer about a declined set-up holds besides the decline: the card and the intent."""
    known = intent["last_setup_error"] or {}
    return {"payment_method": known.get("payment_method"), "setup_intent": state.render(intent)}
