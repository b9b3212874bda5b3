"""Webhooks: signing, the outbox of undelivered events, and their delivery with back-off.

A delivery is one event for one endpoint. It is stored with the event, in the same change, and stays
until the endpoint answers 2xx or the last try fails.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.errors import ApiError
from sandbox.events import listening
from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.state import Sandbox

# Seconds before each further try. Quick at first, so that a receiver restarting on a developer's
# machine soon catches up; then Stripe's own hours-long spacing.
BACK_OFF = (1, 5, 30, 300, 1800, 7200, 18000, 36000, 43200, 43200)
TIMEOUT = 20.0
WORKERS = 4
# Within which background deliveries that a fault shuffles trade places.
SHUFFLED_WITHIN = 2.0
ANSWER_KEPT = 500

# Returns the HTTP status, with or without the answer's text.
Post = Callable[[str, bytes, dict[str, str]], "int | tuple[int, str]"]


@dataclass(frozen=True)
class Delivery:
    """One signed request to send. A list of these may be reordered, doubled or cut before `deliver`."""

    id: str
    event_id: str
    event_type: str
    url: str
    body: bytes
    headers: dict[str, str]
    attempt: int
    endpoint: str


def sign(payload: bytes, *, secret: str, at: int, older: Iterable[str] = ()) -> str:
    """Return a Stripe-Signature header: HMAC-SHA256 of `<at>.<payload>` under the endpoint's secret.

    Of an endpoint whose secret has been rolled it has one more signature by each older secret that still holds.
    """
    signed = f"{at}.".encode() + payload
    digests = [hmac.new(each.encode(), signed, hashlib.sha256).hexdigest() for each in (secret, *older)]
    return ",".join([f"t={at}", *(f"v1={digest}" for digest in digests)])


class Outbox:
    """The deliveries of one sandbox. Only `start` (threads) and `deliver` (a callable) send anything."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._wakeup = threading.Condition()
        self._taken: set[str] = set()
        self._running = False

    def enqueue(self, event: Object) -> None:
        """Queue an event for every enabled endpoint that asked for its type. Part of the event's change."""
        for endpoint in listening.listeners(self._sandbox, event):
            self._fault_and_queue(event, endpoint)

    def _fault_and_queue(self, event: Object, endpoint: Object) -> None:
        faults, type = self._sandbox.faults, event["type"]
        if faults.strike("webhook_lost", event_type=type) is not None:
            # Never sent, so it stays pending, as does an event at Stripe that reaches nobody.
            self.queue(event, endpoint, status="lost")
            return
        delayed = faults.strike("webhook_delayed", event_type=type)
        shuffled = faults.strike("webhook_shuffled", event_type=type)
        doubled = faults.strike("webhook_doubled", event_type=type)
        for _ in range(1 if doubled is None else 2):
            self.queue(
                event,
                endpoint,
                delay=delayed.seconds or 0 if delayed else 0,
                place=shuffled.chance.random() if shuffled else None,
            )

    def queue(
        self,
        event: Object,
        endpoint: Object,
        *,
        status: str = "pending",
        delay: float = 0,
        place: float | None = None,
    ) -> str:
        """Enter one delivery and return its id. `place` is where among shuffled ones it comes, 0 to 1."""
        row = {
            "id": self._sandbox.new_id("delivery"),
            "event": event["id"],
            "event_kind": event["object"],
            "type": event["type"],
            "endpoint": endpoint["id"],
            "status": status,
            "attempts": 0,
            "due_at": time.time() + delay + (place or 0) * SHUFFLED_WITHIN,
            # A delay is over by whichever clock gets there first: a frozen one may never.
            "held_until": self._sandbox.clock.now() + delay if delay else None,
            "place": place,
            "last_status": None,
            "last_error": None,
            "answer": None,
        }
        self._sandbox.store.put("_delivery" if status == "pending" else "_delivery_done", row["id"], row)
        self._await(event, endpoint["id"], waiting=True)
        return str(row["id"])

    def _await(self, event: Object, endpoint: str, *, waiting: bool) -> None:
        """Keep an event's count of the endpoints that it has yet to reach."""
        stored = self._sandbox.find(event["object"], event["id"])
        if stored is None or "pending_webhooks" not in stored:
            return
        missing = [each for each in stored.get("_awaited", []) if each != endpoint]
        stored["_awaited"] = [*missing, endpoint] if waiting else missing
        stored["pending_webhooks"] = len(stored["_awaited"])
        self._sandbox.put(stored)

    def resend(self, event_id: str, *, endpoint: str | None = None) -> list[Delivery]:
        """Queue an event again, as the dashboard's Resend does, for one endpoint or all that want it.

        Raises ApiError for no such event, and for an endpoint that is disabled or never asked for it.
        """
        with self._sandbox.change():
            event = self._sandbox.find("v2.core.event", event_id) or self._sandbox.get("event", event_id)
            targets = listening.listeners(self._sandbox, event)
            if endpoint is not None:
                targets = [each for each in targets if each["id"] == endpoint]
                if not targets:
                    raise ApiError(f"{endpoint} does not listen for {event['type']}.", param="endpoint")
            queued = [self.queue(event, each) for each in targets]
            rows = [self._sandbox.find("_delivery", each) for each in queued]
            deliveries = [self._signed(row) for row in rows if row is not None]
        return [each for each in deliveries if each is not None]

    def pending(self) -> list[Delivery]:
        """Return every undelivered webhook, oldest first, signed at this moment.

        Those that a fault shuffles are in an order of its seed; those it delays are left out until then.
        """
        with self._sandbox.lock:
            now = self._sandbox.clock.now()
            rows = _shuffled([row for row in self._sandbox.every("_delivery") if _is_out(row, now)])
            return [each for row in rows if (each := self._signed(row)) is not None]

    def deliver(self, post: Post, deliveries: Iterable[Delivery] | None = None) -> list[int]:
        """Hand deliveries (default: all that are pending) to `post` and keep the score.

        `post(url, body, headers)` returns the HTTP status; an OSError it raises counts as no answer.
        Returns the statuses in order, 0 for no answer. What the receiver causes meanwhile waits for
        the next call.
        """
        statuses = []
        for delivery in self.pending() if deliveries is None else list(deliveries):
            statuses.append(self._send(post, delivery))
        return statuses

    def _send(self, post: Post, delivery: Delivery) -> int:
        status, answer, error = _attempt(post, delivery)
        self._record(delivery, status=status, answer=answer, error=error)
        return status

    def forget(self, endpoint_id: str) -> None:
        """Drop what waits for an endpoint that is going away. Part of that change."""
        for row in list(self._sandbox.every("_delivery")):
            if row["endpoint"] == endpoint_id:
                self._sandbox.store.remove("_delivery", row["id"])
        for event in list(self._sandbox.every("event")):
            if endpoint_id in event.get("_awaited", []):
                self._await(event, endpoint_id, waiting=False)

    def log(self, *, limit: int = 50) -> list[Object]:
        """Return deliveries as plain rows: those still waiting, then those done, each newest first."""
        with self._sandbox.lock:
            waiting, done = self._sandbox.newest("_delivery"), self._sandbox.newest("_delivery_done")
            rows = (waiting + done)[:limit]
            urls = {each["id"]: listening.url_of(each) for each in listening.endpoints(self._sandbox)}
            return [{**row, "url": urls.get(row["endpoint"])} for row in rows]

    def start(self) -> None:
        """Send in the background from now on."""
        self._running = True
        for number in range(WORKERS):
            # Daemons: a receiver that hangs must not hold up the sandbox's own exit.
            threading.Thread(target=self._work, name=f"webhooks-{number}", daemon=True).start()

    def stop(self) -> None:
        self._running = False
        self.wake()

    def wake(self) -> None:
        """Tell the threads that something may be due."""
        if self._running or self._taken:
            with self._wakeup:
                self._wakeup.notify_all()

    def _work(self) -> None:
        while self._running:
            delivery = self._take_due()
            if delivery is None:
                with self._wakeup:
                    self._wakeup.wait(timeout=0.25)
                continue
            try:
                self._send(post_over_http, delivery)
            finally:
                self._taken.discard(delivery.id)

    def _take_due(self) -> Delivery | None:
        with self._sandbox.lock:
            if not self._running:
                return None
            for row in self._due():
                signed = self._signed(row)
                if signed is not None:
                    self._taken.add(signed.id)
                    return signed
        return None

    def _due(self) -> Iterator[Object]:
        """Yield what is to be sent now, in the order of its events; what a fault shuffled by its new places."""
        now, shuffled = self._sandbox.clock.now(), []
        for row in self._sandbox.every("_delivery"):
            if row["id"] in self._taken or not _is_due(row, now):
                continue
            if row["place"] is None:
                yield row
            else:
                shuffled.append(row)
        yield from sorted(shuffled, key=lambda row: float(row["due_at"]))

    def _signed(self, row: Object) -> Delivery | None:
        """Return a delivery ready to send, None while its endpoint is disabled or where it is gone."""
        endpoint = listening.find(self._sandbox, row["endpoint"])
        event = self._sandbox.find(row["event_kind"], row["event"])
        if endpoint is None or event is None or endpoint["status"] != "enabled":
            return None
        body = json.dumps(listening.payload(self._sandbox, event), indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            # Receivers check the signature's age against real time, whatever the sandbox's clock says.
            "Stripe-Signature": sign(
                body,
                secret=endpoint["_secret"],
                at=int(time.time()),
                older=listening.older_secrets(self._sandbox, endpoint),
            ),
        }
        return Delivery(
            id=row["id"],
            event_id=event["id"],
            event_type=event["type"],
            url=listening.url_of(endpoint),
            body=body,
            headers=headers,
            attempt=row["attempts"] + 1,
            endpoint=endpoint["id"],
        )

    def _record(self, delivery: Delivery, *, status: int, answer: str | None, error: str | None) -> None:
        with self._sandbox.change():
            row = self._sandbox.find("_delivery", delivery.id)
            if row is None:
                return  # A doubled delivery whose first copy has already arrived.
            row["attempts"] += 1
            row.update(last_status=status, last_error=error, answer=answer)
            if 200 <= status < 300:
                row["status"] = "delivered"
            elif row["attempts"] > len(BACK_OFF):
                row["status"] = "failed"
            else:
                row.update(due_at=time.time() + BACK_OFF[row["attempts"] - 1], held_until=None)
            if row["status"] == "pending":
                self._sandbox.store.put("_delivery", row["id"], row)
                return
            # Apart from the pending ones, which the threads look through four times a second.
            self._sandbox.store.remove("_delivery", row["id"])
            self._sandbox.store.put("_delivery_done", row["id"], row)
            event = self._sandbox.find(row["event_kind"], delivery.event_id)
            if event is not None and row["status"] == "delivered":
                self._await(event, row["endpoint"], waiting=False)


def _is_out(row: Object, now: int) -> bool:
    """Return whether a delivery is no longer held back by a fault."""
    return row["held_until"] is None or row["held_until"] <= now or row["due_at"] <= time.time()


def _is_due(row: Object, now: int) -> bool:
    return row["due_at"] <= time.time() or (row["held_until"] is not None and row["held_until"] <= now)


def _shuffled(rows: list[Object]) -> list[Object]:
    """Return the rows with those that a fault shuffles in each other's places."""
    shuffled = sorted((row for row in rows if row["place"] is not None), key=lambda row: row["place"])
    turn = iter(shuffled)
    return [row if row["place"] is None else next(turn) for row in rows]


def _attempt(post: Post, delivery: Delivery) -> tuple[int, str | None, str | None]:
    """Return status, answer and error of one try; the status is 0 where there was no answer."""
    try:
        answered = post(delivery.url, delivery.body, delivery.headers)
    # A ValueError is an address that cannot be written into a request.
    except (OSError, ValueError, http.client.HTTPException) as error:
        return 0, None, f"{type(error).__name__}: {error}"
    status, answer = answered if isinstance(answered, tuple) else (answered, None)
    return status, answer, None


def post_over_http(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    """POST and return the status and the answer's beginning.

    Redirects are not followed and proxies not used, as the target is local.
    """
    parts = urllib.parse.urlsplit(url)
    factory = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = factory(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request(
            "POST", parts.path + (f"?{parts.query}" if parts.query else "") or "/", body, headers
        )
        response = connection.getresponse()
        answer = response.read(ANSWER_KEPT)
        return response.status, answer.decode(errors="replace")
    finally:
        connection.close()
