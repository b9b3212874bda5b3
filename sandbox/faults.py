"""Faults on order: what goes wrong with requests, cards and webhooks, which ones and how often.

They are kept in memory only: a restart clears them.
"""

from __future__ import annotations

import fnmatch
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.errors import ApiError
from sandbox.ids import random_text
from sandbox.payments.cards import DECLINES, GENERIC, Decline

if TYPE_CHECKING:
    from sandbox.state import Sandbox

REQUEST_KINDS = (
    "rate_limit",
    "server_error",
    "server_error_after",
    "timeout_before",
    "timeout_after",
    "slow",
)
WEBHOOK_KINDS = ("webhook_lost", "webhook_doubled", "webhook_shuffled", "webhook_delayed")
KINDS = (*REQUEST_KINDS, "declined", *WEBHOOK_KINDS)
TIMED = ("slow", "webhook_delayed")
LONGEST = 86400.0
DECLINE_CODES = {each.decline_code or each.code: each for each in (GENERIC, *DECLINES.values())}


class ConnectionLost(ConnectionError):
    """The connection ends without an answer."""


@dataclass
class Fault:
    """One thing that goes wrong: `times` times (None: until cleared), each with a probability."""

    kind: str
    method: str | None = None
    path: str | None = None
    event_type: str | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    seconds: float | None = None
    decline_code: str | None = None
    id: str = ""
    hits: int = 0
    chance: random.Random = field(default_factory=random.Random, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the fault in plain JSON values; `left` is None where it lasts until cleared."""
        shown = {name: getattr(self, name) for name in FIELDS}
        left = None if self.times is None else self.times - self.hits
        return {"id": self.id, **shown, "hits": self.hits, "left": left}


FIELDS = (
    "kind",
    "method",
    "path",
    "event_type",
    "times",
    "probability",
    "seed",
    "seconds",
    "decline_code",
)


class Faults:
    """The faults of one sandbox, first come first served."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[str, Fault] = {}
        # What waits for a "slow" fault; a test puts its own here.
        self.sleep: Callable[[float], None] = time.sleep

    def add(
        self,
        kind: str,
        *,
        method: str | None = None,
        path: str | None = None,
        event_type: str | None = None,
        times: int | None = None,
        probability: float = 1.0,
        seed: int = 0,
        seconds: float | None = None,
        decline_code: str | None = None,
    ) -> Fault:
        """Order a fault and return it. Raises ApiError for one that makes no sense.

        `path` and `event_type` are shell patterns: `/v1/customers*`, `invoice.*`.
        """
        fault = Fault(
            kind,
            method=method.upper() if method else None,
            path=path or None,
            event_type=event_type or None,
            times=times,
            probability=probability,
            seed=seed,
            seconds=seconds,
            decline_code=decline_code or None,
            id="fault_" + random_text(12),
            chance=random.Random(seed),  # noqa: S311  (repeatable chance is the point)
        )
        check(fault)
        with self._lock:
            self._all[fault.id] = fault
        return fault

    def all(self) -> list[Fault]:
        """Return the faults that may still strike, oldest first."""
        with self._lock:
            return list(self._all.values())

    def remove(self, identifier: str) -> bool:
        """Clear one fault. Returns whether there was one."""
        with self._lock:
            return self._all.pop(identifier, None) is not None

    def clear(self) -> None:
        with self._lock:
            self._all.clear()

    def strike(
        self,
        *kinds: str,
        method: str | None = None,
        path: str | None = None,
        event_type: str | None = None,
    ) -> Fault | None:
        """Return the first fault of these kinds that strikes now, having counted it, or None."""
        with self._lock:
            for fault in list(self._all.values()):
                if fault.kind not in kinds or not _fits(fault, method, path, event_type):
                    continue
                if fault.chance.random() >= fault.probability:
                    continue
                fault.hits += 1
                if fault.times is not None and fault.hits >= fault.times:
                    del self._all[fault.id]
                return fault
        return None


def _fits(fault: Fault, method: str | None, path: str | None, event_type: str | None) -> bool:
    return (
        (fault.method is None or fault.method == method)
        and (fault.path is None or fnmatch.fnmatchcase(path or "", fault.path))
        and (fault.event_type is None or fnmatch.fnmatchcase(event_type or "", fault.event_type))
    )


def check(fault: Fault) -> None:  # noqa: PLR0912  (one branch a field)
    """Raise ApiError, naming the field, for a fault that could never strike as it is written."""
    if fault.kind not in KINDS:
        raise ApiError(f"Invalid kind: must be one of {', '.join(KINDS)}", param="kind")
    if fault.method is not None and fault.method not in ("GET", "POST", "DELETE"):
        raise ApiError("Invalid method: must be one of GET, POST, or DELETE", param="method")
    for name in ("method", "path"):
        if getattr(fault, name) is not None and fault.kind not in REQUEST_KINDS:
            raise ApiError(f"A {fault.kind} fault takes no {name}: it is not about requests.", param=name)
    if fault.path is not None and not fault.path.startswith(("/", "*")):
        raise ApiError("Invalid path: a pattern such as /v1/customers* is wanted", param="path")
    if fault.event_type is not None and fault.kind not in WEBHOOK_KINDS:
        raise ApiError(
            f"A {fault.kind} fault takes no event_type: it is not about webhooks.", param="event_type"
        )
    if fault.times is not None and fault.times < 1:
        raise ApiError("Invalid times: it must be at least 1", param="times")
    if not 0 < fault.probability <= 1:
        raise ApiError("Invalid probability: it must be above 0 and at most 1", param="probability")
    if fault.kind in TIMED and fault.seconds is None:
        raise ApiError(f"A {fault.kind} fault needs its seconds.", param="seconds")
    if fault.seconds is not None:
        if fault.kind not in TIMED:
            raise ApiError(f"A {fault.kind} fault takes no seconds.", param="seconds")
        if not 0 < fault.seconds <= LONGEST:
            raise ApiError(f"Invalid seconds: from above 0 to {LONGEST:.0f}", param="seconds")
    if fault.decline_code is not None:
        if fault.kind != "declined":
            raise ApiError(f"A {fault.kind} fault takes no decline_code.", param="decline_code")
        if fault.decline_code not in DECLINE_CODES:
            raise ApiError(
                f"Invalid decline_code: must be one of {', '.join(DECLINE_CODES)}", param="decline_code"
            )


def forced_decline(state: Sandbox) -> Decline | None:
    """Return the decline that a fault forces on the card being tried, or None. Counts the fault."""
    fault = state.faults.strike("declined")
    if fault is None:
        return None
    return DECLINE_CODES[fault.decline_code] if fault.decline_code else GENERIC
