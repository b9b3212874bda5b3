"""3-D Secure: sending the holder of a card to the challenge, and what passing or failing it brings about."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from sandbox.errors import ApiError
from sandbox.payments import paying, setting_up
from sandbox.payments.cards import Decline
from sandbox.payments.challenge import page_url
from sandbox.state import Sandbox
from sandbox.store import Object


def authentication_url(state: Sandbox, intent: Object, *, return_to: str | None = None) -> str:
    """Return the page of an intent's challenge, after which the browser goes to `return_to`.

    Without `return_to` it goes to the return_url that the intent was confirmed with, if any.
    """
    if return_to is not None:
        intent["_return_url"] = return_to
        state.put(intent)
    return page_url(state, intent)


def authenticate(state: Sandbox, intent: Object, *, passed: bool) -> Decline | None:
    """Finish the challenge of a payment intent or setup intent. Returns why it came to nothing, else None.

    Passed, the charge is made, which the bank may still decline, or the card is saved; the bank then lets it be
    charged with its holder away, where the intent was for that. Failed, the intent waits for another card.
    Who listens on payments is told. Raises ApiError where the intent waits for no challenge.
    """
    if intent["status"] != "requires_action":
        noun = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
        raise ApiError(
            f"This {noun} has a status of {intent['status']}: there is nothing to authenticate.",
            code=f"{intent['object']}_unexpected_state",
        )
    method = state.get("payment_method", intent["payment_method"])
    if intent["object"] == "setup_intent":
        return _finish_setup(state, intent, method, passed=passed)
    if passed:
        decline = paying.charge_authenticated(state, intent, method)
    else:
        decline = paying.AUTHENTICATION_FAILED
        paying.fail(state, intent, method, decline, type="invalid_request_error")
    paying.tell(state, intent, decline)
    return decline


def _finish_setup(state: Sandbox, intent: Object, method: Object, *, passed: bool) -> Decline | None:
    if passed:
        setting_up.succeed_setup(state, intent, method, authenticated=True)
        return None
    return setting_up.fail_setup(
        state, intent, method, setting_up.AUTHENTICATION_FAILED, type="invalid_request_error"
    )


def return_url(intent: Object) -> str | None:
    """Return where the browser goes after the challenge, with what Stripe adds to the address, or None."""
    if intent["_return_url"] is None:
        return None
    kind = intent["object"]
    # A challenge that came to nothing leaves the intent waiting for another card.
    failed = intent["status"] in ("requires_payment_method", "canceled")
    added = urlencode(
        {
            kind: intent["id"],
            f"{kind}_client_secret": intent["client_secret"],
            "redirect_status": "failed" if failed else "succeeded",
        }
    )
    parts = urlsplit(intent["_return_url"])
    query = f"{parts.query}&{added}" if parts.query else added
    return urlunsplit(parts._replace(query=query))
