"""Meter event sessions: the short-lived tokens that open the meter event stream, and only that."""

from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.v2 import iso

STREAM = "/v2/billing/meter_event_stream"
LASTS = 15 * 60
PREFIX = "token_test_"
KIND = "v2.billing.meter_event_session"


def open_session(state: Sandbox) -> Object:
    """Return a new session, good for 15 minutes."""
    now = state.clock.now()
    token = PREFIX + random_text(48)
    session = {
        "id": state.new_id(KIND),
        "object": KIND,
        "authentication_token": token,
        "created": iso(now),
        "expires_at": iso(now + LASTS),
        "livemode": False,
    }
    state.store.put("_meter_session", token, {"expires_at": now + LASTS})
    return session


def check_token(state: Sandbox, authorization: str | None) -> None:
    """Raise ApiError (401) unless a request carries the token of a session that has not expired."""
    scheme, _, token = (authorization or "").partition(" ")
    session = state.find("_meter_session", token.strip()) if scheme.lower() == "bearer" else None
    if session is None:
        raise ApiError(
            "The meter event stream takes the authentication token of a meter event session, and no API key.",
            status=401,
        )
    if session["expires_at"] <= state.clock.now():
        raise ApiError(
            "The meter event session has expired: create a new one and use its authentication token.",
            status=401,
            type="temporary_session_expired",
            code="billing_meter_event_session_expired",
        )
