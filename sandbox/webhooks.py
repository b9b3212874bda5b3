"""Webhooks: signing, the outbox of undelivered events, and their delivery with back-off.

A delivery is one event for one endpoint. It is stored with the event, in the same change, and stays
until an endpoint answers 2xx or the last try fails.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.state import Sandbox

# Seconds before each further try. Quick at first, so that a receiver restarting on a developer's
# machine soon catches up; then Stripe's own hours-long spacing.
BACK_OFF = (1, 5, 30, 300, 1800, 7200, 18000, 36000, 43200, 43200)
TIMEOUT = 20.0
WORKERS = 4

Post = Callable[[str, bytes, dict[str, str]], int]


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


def sign(payload: bytes, *, secret: str, at: int) -> str:
    """Return a Stripe-Signature header: HMAC-SHA256 of `<at>.<payload>` under the endpoint's secret."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Outbox:
    """The deliveries of one sandbox. Only `start` (threads) and `deliver` (a callable) send anything."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._wakeup = threading.Condition()
        self._taken: set[str] = set()
        self._running = False

    def enqueue(self, event: Object) -> None:
        """Queue an event for every enabled endpoint that asked for its type. Part of the event's change."""
        for endpoint in self._sandbox.every("webhook_endpoint"):
            wanted = endpoint["enabled_events"]
            if endpoint["status"] == "enabled" and ("*" in wanted or event["type"] in wanted):
                self._queue(event, endpoint)

    def _queue(self, event: Object, endpoint: Object) -> None:
        row = {
            "id": self._sandbox.new_id("delivery"),
            "event": event["id"],
            "type": event["type"],
            "endpoint": endpoint["id"],
            "status": "pending",
            "attempts": 0,
            "due_at": time.time(),
            "last_status": None,
            "last_error": None,
        }
        self._sandbox.store.put("_delivery", row["id"], row)
        stored = self._sandbox.find("event", event["id"]) or event
        stored["pending_webhooks"] += 1
        self._sandbox.put(stored)

    def resend(self, event_id: str) -> list[Delivery]:
        """Queue an event again, as the dashboard's Resend button does. Raises ApiError for no such event."""
        with self._sandbox.change():
            event = self._sandbox.get("event", event_id)
            known = {row["id"] for row in self._sandbox.every("_delivery")}
            self.enqueue(event)
            fresh = [row for row in self._sandbox.every("_delivery") if row["id"] not in known]
            deliveries = [self._signed(row) for row in fresh]
        return [each for each in deliveries if each is not None]

    def pending(self) -> list[Delivery]:
        """Return every undelivered webhook, oldest first, signed at this moment."""
        with self._sandbox.lock:
            return [
                each for row in self._sandbox.every("_delivery") if (each := self._signed(row)) is not None
            ]

    def deliver(self, post: Post, deliveries: Iterable[Delivery] | None = None) -> list[int]:
        """Hand deliveries (default: all that are pending) to `post` and keep the score.

        `post(url, body, headers)` returns the HTTP status; an OSError it raises counts as no answer.
        Returns the statuses in order, 0 for no answer. What the receiver causes meanwhile waits for
        the next call.
        """
        statuses = []
        for delivery in self.pending() if deliveries is None else list(deliveries):
            status, error = _attempt(post, delivery)
            self._record(delivery, status=status, error=error)
            statuses.append(status)
        return statuses

    def forget(self, endpoint_id: str) -> None:
        """Drop what waits for an endpoint that is going away. Part of that change."""
        for row in list(self._sandbox.every("_delivery")):
            if row["endpoint"] == endpoint_id:
                self._sandbox.store.remove("_delivery", row["id"])
                event = self._sandbox.find("event", row["event"])
                if event is not None:
                    event["pending_webhooks"] = max(event["pending_webhooks"] - 1, 0)
                    self._sandbox.put(event)

    def log(self, *, limit: int = 50) -> list[Object]:
        """Return deliveries as plain rows: those still waiting, then those done, each newest first."""
        with self._sandbox.lock:
            waiting, done = self._sandbox.newest("_delivery"), self._sandbox.newest("_delivery_done")
            rows = (waiting + done)[:limit]
            urls = {endpoint["id"]: endpoint["url"] for endpoint in self._sandbox.every("webhook_endpoint")}
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
                status, error = _attempt(post_over_http, delivery)
                self._record(delivery, status=status, error=error)
            finally:
                self._taken.discard(delivery.id)

    def _take_due(self) -> Delivery | None:
        with self._sandbox.lock:
            if not self._running:
                return None
            for row in self._sandbox.every("_delivery"):
                if row["due_at"] <= time.time() and row["id"] not in self._taken:
                    signed = self._signed(row)
                    if signed is not None:
                        self._taken.add(signed.id)
                        return signed
        return None

    def _signed(self, row: Object) -> Delivery | None:
        endpoint = self._sandbox.find("webhook_endpoint", row["endpoint"])
        event = self._sandbox.find("event", row["event"])
        if endpoint is None or event is None:
            return None
        body = json.dumps(self._sandbox.render(event), indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            # Receivers check the signature's age against real time, whatever the sandbox's clock says.
            "Stripe-Signature": sign(body, secret=endpoint["_secret"], at=int(time.time())),
        }
        return Delivery(
            id=row["id"],
            event_id=event["id"],
            event_type=event["type"],
            url=endpoint["url"],
            body=body,
            headers=headers,
            attempt=row["attempts"] + 1,
        )

    def _record(self, delivery: Delivery, *, status: int, error: str | None) -> None:
        with self._sandbox.change():
            row = self._sandbox.find("_delivery", delivery.id)
            if row is None:
                return  # A doubled delivery whose first copy has already arrived.
            row["attempts"] += 1
            row["last_status"], row["last_error"] = status, error
            if 200 <= status < 300:
                row["status"] = "delivered"
            elif row["attempts"] > len(BACK_OFF):
                row["status"] = "failed"
            else:
                row["due_at"] = time.time() + BACK_OFF[row["attempts"] - 1]
            if row["status"] == "pending":
                self._sandbox.store.put("_delivery", row["id"], row)
            else:
                # Apart from the pending ones, which the threads look through four times a second.
                self._sandbox.store.remove("_delivery", row["id"])
                self._sandbox.store.put("_delivery_done", row["id"], row)
            event = self._sandbox.find("event", delivery.event_id)
            if event is not None and row["status"] == "delivered":
                event["pending_webhooks"] = max(event["pending_webhooks"] - 1, 0)
                self._sandbox.put(event)


def _attempt(post: Post, delivery: Delivery) -> tuple[int, str | None]:
    try:
        return post(delivery.url, delivery.body, delivery.headers), None
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{type(error).__name__}: {error}"


def post_over_http(url: str, body: bytes, headers: dict[str, str]) -> int:
    """POST and return the status. Redirects are not followed and proxies not used, as the target is local."""
    parts = urllib.parse.urlsplit(url)
    factory = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = factory(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request(
            "POST", parts.path + (f"?{parts.query}" if parts.query else "") or "/", body, headers
        )
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()
