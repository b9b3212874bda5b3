"""The world outside the product: Stripe's stand-in, whose clock and pages the demo uses over HTTP."""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime
from typing import Any, Protocol

from apikeys.demo.errors import DemoError

TIMEOUT = 60
TRIES = 3  # Of one webhook. More mean that it is refused for a reason.


class World(Protocol):
    def start_at(self, moment: datetime) -> None:
        """Let the stand-in's clock stand in the past. Raises DemoError where customers live there already."""

    def move(self, to: datetime) -> None:
        """Let it be `to` there: what falls due on the way happens."""

    def resume(self) -> None:
        """Let it be the present there from now on."""

    def hear(self) -> None:
        """Come back when every webhook sent so far has been taken in."""

    def pay(self, url: str, *, card: str, name: str) -> str | None:
        """Fill in and send a Checkout page; return the session's id, or None where the card is declined."""


class StandIn:
    """A running sandbox at `origin`."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        # Webhooks from before the play, which nobody listened to: they come again in their own time.
        self._old: set[str] = set()

    def start_at(self, moment: datetime) -> None:
        self._set_clock(start_at=int(moment.timestamp()))
        self._old = {row["id"] for row in self._waiting()}

    def move(self, to: datetime) -> None:
        self._set_clock(frozen_at=int(to.timestamp()))

    def resume(self) -> None:
        self._set_clock(frozen_at=int(time.time()))
        self._set_clock(resume=True)

    def hear(self) -> None:
        deadline = time.monotonic() + TIMEOUT
        pause = 0.005
        while waiting := self._waiting():
            worst = max(waiting, key=lambda row: row["attempts"])
            if worst["attempts"] >= TRIES or time.monotonic() > deadline:
                why = worst["last_error"] or f"answered with {worst['last_status']}"
                raise DemoError(f"The webhook {worst['type']} does not get through: {why}.")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def pay(self, url: str, *, card: str, name: str) -> str | None:
        form = {"number": card, "expiry": "12 / 34", "cvc": "123", "name": name}
        status, headers, body = _send(url, urllib.parse.urlencode(form).encode())
        if status == 402:
            return None
        return session_id_of(status, headers.get("Location", ""), body.decode(errors="replace"))

    def _waiting(self) -> list[dict[str, Any]]:
        status, _, body = _send(f"{self.origin}/sandbox/deliveries")
        if status != 200:
            raise DemoError(f"The sandbox answers {status} to a question about its webhooks.")
        return [row for row in json.loads(body) if row["status"] == "pending" and row["id"] not in self._old]

    def _set_clock(self, **change: int | bool) -> None:
        address = f"{self.origin}/sandbox/clock"
        status, _, body = _send(address, json.dumps(change).encode(), content_type="application/json")
        if status != 200:
            raise DemoError(f"The sandbox's clock cannot be set: {body.decode(errors='replace')[:300]}")


def session_id_of(status: int, location: str, body: str) -> str:
    """Return the session's id from where a paid Checkout page sends its customer. Raises DemoError elsewhere."""
    found = re.search(r"session_id=(cs_\w+)", location)
    if found is None:
        said = " ".join(re.sub(r"<[^>]*>", " ", body).split())
        raise DemoError(f"Stripe's Checkout page answers {status}: {said[:300]}")
    return found[1]


class _Stay(urllib.request.HTTPRedirectHandler):
    """Shows where an answer leads instead of going there."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


def _send(
    url: str, body: bytes | None = None, *, content_type: str = "application/x-www-form-urlencoded"
) -> tuple[int, Any, bytes]:
    headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310  # The stand-in's own address.
    try:
        with _opener.open(request, timeout=TIMEOUT) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
    except OSError as error:
        raise DemoError(f"The Stripe sandbox does not answer at {url}: {error}.") from error
