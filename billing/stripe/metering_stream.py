"""Stripe's high-throughput meter event stream: many reports in a request, each judged later.

It takes no API key but the token of a session, which is good for 15 minutes and for nothing else. What is wrong
with an event comes as a thin event; one whose identifier Stripe knows already is passed over.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe

from accounts import clock
from billing.stripe.client import get_client, new_client, translated_errors

MOST_AT_ONCE = 100
# A session this near its end is not begun a request with, which takes up to a minute with its retries.
MARGIN = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One report: `value` units used at `timestamp`, once per `identifier` however often it is sent."""

    event_name: str
    customer_id: str
    value: int
    identifier: str
    timestamp: datetime

    def as_params(self) -> dict[str, Any]:
        return {
            "event_name": self.event_name,
            "payload": {"stripe_customer_id": self.customer_id, "value": str(self.value)},
            "identifier": self.identifier,
            "timestamp": self.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


@dataclass(frozen=True, slots=True)
class Session:
    """A client with the session's token, which is shown nowhere; `opened_by` is the client whose key opened it."""

    client: stripe.StripeClient = field(repr=False)
    opened_by: stripe.StripeClient = field(repr=False)
    expires_at: datetime

    @property
    def is_good(self) -> bool:
        # Another key than the one it was opened with: that one may be revoked, and the account another.
        return self.opened_by is get_client() and clock.now() < self.expires_at - MARGIN


class Sessions:
    """The session of this process, opened anew when it nears its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Session | None = None

    def get(self) -> Session:
        with self._lock:
            if self._current is None or not self._current.is_good:
                self._current = open_session()
            return self._current

    def drop(self, session: Session) -> None:
        with self._lock:
            if self._current is session:
                self._current = None


sessions = Sessions()


def open_session() -> Session:
    client = get_client()
    opened = client.v2.billing.meter_event_session.create()
    return Session(new_client(opened.authentication_token), client, datetime.fromisoformat(opened.expires_at))


def stream_meter_events(events: Sequence[StreamedEvent]) -> None:
    """Send up to 100 events in one request, of each customer and meter one at most.

    Raises StripeUnavailable (any of them may or may not have been taken: repeat them with the same identifiers),
    or StripeRejected where Stripe refused the request as a whole and took none.
    """
    params: Any = {"events": [each.as_params() for each in events]}
    with translated_errors():
        session = sessions.get()
        try:
            session.client.v2.billing.meter_event_stream.create(params)
        except (stripe.TemporarySessionExpiredError, stripe.AuthenticationError):
            # Nothing was taken. Stripe ends sessions early too, as when a key is rolled.
            sessions.drop(session)
            fresh = sessions.get()
            try:
                fresh.client.v2.billing.meter_event_stream.create(params)
            except stripe.TemporarySessionExpiredError as error:
                sessions.drop(fresh)
                raise stripe.APIConnectionError(
                    "The stream takes no session that was just opened."
                ) from error
