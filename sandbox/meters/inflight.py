"""What is being worked on this moment, known before a request gets hold of the sandbox.

One request at a time holds the sandbox. Without this, two that Stripe would see collide would only
queue.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from sandbox.errors import ApiError

METERED = ("/v1/billing/meter_events", "/v2/billing/meter_events")


class InFlight:
    """The idempotency keys and the customers' meters in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def hold(self, *, key: str | None, path: str, raw: dict[str, Any]) -> Iterator[None]:
        """Claim what a request needs for as long as it lasts.

        Raises ApiError (409) for an idempotency key in use, (429) for a meter event while another of the
        same customer and meter is taken in.
        """
        wanted = [("key", key)] if key else []
        usage = _usage(path.rstrip("/"), raw)
        with self._lock:
            if key and ("key", key) in self._claimed:
                raise _key_in_use(key)
            if usage is not None:
                if ("usage", usage) in self._claimed:
                    raise _usage_in_use()
                wanted.append(("usage", usage))
            self._claimed.update(wanted)
        try:
            yield
        finally:
            with self._lock:
                self._claimed.difference_update(wanted)


def _usage(path: str, raw: dict[str, Any]) -> str | None:
    """Return which customer's meter a request reports to, None for any other request."""
    payload = raw.get("payload")
    if path not in METERED or not isinstance(payload, dict):
        return None
    # Which key names the customer is the meter's choice, and the meter is out of reach until the sandbox is held.
    owner = payload.get("stripe_customer_id") or sorted(
        (name, str(value)) for name, value in payload.items() if name != "value"
    )
    return f"{raw.get('event_name')} {owner}"


def _key_in_use(key: str) -> ApiError:
    return ApiError(
        "There is currently another in-progress request using this Idempotent Key (that probably means you "
        f"submitted twice, and the other request is still going through): {key}. Please try again later.",
        status=409,
        type="idempotency_error",
        code="idempotency_key_in_use",
    )


def _usage_in_use() -> ApiError:
    return ApiError(
        "Cannot create multiple usage events for the same customer, meter concurrently.",
        status=429,
        code="too_many_concurrent_requests",
    )
