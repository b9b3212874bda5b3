"""The Redis stream between the call that was served and the ledger. At least once: a batch is
acknowledged after its transaction has committed, and taken over from a reader that died before."""

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import DataError, IntegrityError
from redis.exceptions import ResponseError

from usage.events import Event
from usage.ledger import store
from usage.lines import lines
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

STREAM = "tollgate:usage:events"
REFUSED = "tollgate:usage:unreadable"
GROUP = "drain"
BATCH = 2000
TAKE_OVER_AFTER_MS = 30_000
PAUSE_SECONDS = 0.05


def append(event: Event, *, failed: Callable[[], None]) -> None:
    """Hand an event to the drain, without waiting until Redis has it: `failed` is called where it may not have.

    Raises redis.exceptions.RedisError where it could not be sent at all.
    """
    lines.send("XADD", STREAM, "*", "e", event.encode(), failed=failed)


def deliver(event: Event) -> None:
    """Hand an event to the drain, and wait until Redis has it. Raises redis.exceptions.RedisError where it may not."""
    lines.call("XADD", STREAM, "*", "e", event.encode())


def retry_later(attempt: Callable[[], bool]) -> None:
    """Have `attempt` called again and again, in a thread of its own, until it returns True."""
    lines.repeat(attempt)


def backlog(organization_id: uuid.UUID) -> list[Event]:
    """Return the organization's events that are not taken off the stream yet. Raises redis.exceptions.RedisError.

    Those that a drain has in hand are among them: it may have stored them already.
    """
    lines.confirm()
    found, after = [], "-"
    while True:
        page: Any = get_redis().xrange(STREAM, min=after, count=BATCH)
        for _, fields in page:
            text = fields.get("e", "")
            if organization_id.hex in text:
                try:
                    event = Event.decode(text)
                except ValueError:
                    continue  # The drain will set it aside.
                if event.organization_id == organization_id:
                    found.append(event)
        if len(page) < BATCH:
            return found
        after = f"({page[-1][0]}"


def length() -> int:
    """Return how many entries wait to be stored, those in a drain's hands among them. Raises RedisError."""
    return int(get_redis().xlen(STREAM))


class State(NamedTuple):
    """How the stream stands. `oldest_age` is how long its oldest entry has waited, in seconds; without any, 0."""

    entries: int
    pending: int
    oldest_age: float
    consumers: int
    unreadable: int


def state() -> State:
    """Raises redis.exceptions.RedisError."""
    redis: Any = get_redis()
    lines.confirm()
    oldest = redis.xrange(STREAM, count=1)
    seconds, microseconds = redis.time()
    groups: list[Any] = redis.xinfo_groups(STREAM) if redis.exists(STREAM) else []
    group = next((each for each in groups if each["name"] == GROUP), {"pending": 0, "consumers": 0})
    began = order_of(oldest[0][0])[0] / 1000 if oldest else None
    return State(
        entries=redis.xlen(STREAM),
        pending=group["pending"],
        oldest_age=0 if began is None else max(seconds + microseconds / 1_000_000 - began, 0),
        consumers=group["consumers"],
        unreadable=redis.xlen(REFUSED),
    )


def last_id() -> str:
    """Return the id of the newest entry that was ever appended. Raises redis.exceptions.RedisError."""
    lines.confirm()
    info: Any = get_redis().xinfo_stream(STREAM)
    return str(info["last-generated-id"])


def is_stored(up_to: str) -> bool:
    """Whether every entry up to the id `up_to` has been read and acknowledged, by whichever reader."""
    redis = get_redis()
    groups: Any = redis.xinfo_groups(STREAM)
    delivered = next((group["last-delivered-id"] for group in groups if group["name"] == GROUP), "0-0")
    pending: Any = redis.xpending(STREAM, GROUP)
    waiting = bool(pending["pending"]) and order_of(pending["min"]) <= order_of(up_to)
    return order_of(delivered) >= order_of(up_to) and not waiting


def wait_until_stored(*, seconds: float) -> bool:
    """Wait for whoever drains the stream; return whether all that is on it now is stored. Raises RedisError."""
    lines.confirm()
    redis = get_redis()
    if not redis.xlen(STREAM):
        return True
    newest, deadline = last_id(), time.monotonic() + seconds
    while not redis.xinfo_groups(STREAM) or not is_stored(newest):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def order_of(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class Drain:
    """One reader of the stream. Several share the work, each under a name of its own."""

    def __init__(self, *, consumer: str | None = None) -> None:
        self.redis = get_redis()
        self.consumer = consumer or uuid.uuid4().hex
        try:
            self.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def run_once(self, *, block_ms: int | None = None) -> int:
        """Store one batch; return how many entries it had. Waits up to `block_ms` for the first one."""
        lines.confirm()  # What this very process has handed over is there before it is read.
        batches: Any = self.redis.xreadgroup(GROUP, self.consumer, {STREAM: ">"}, count=BATCH, block=block_ms)
        return self.store(batches[0][1]) if batches else 0

    def take_over(self, *, idle_ms: int = TAKE_OVER_AFTER_MS) -> int:
        """Store what a reader took and has not acknowledged for `idle_ms`; return how many entries that was."""
        claimed: Any = self.redis.xautoclaim(STREAM, GROUP, self.consumer, min_idle_time=idle_ms, count=BATCH)
        return self.store(claimed[1])

    def leave(self) -> None:
        """Take this reader off the group, unless entries still hang on its name."""
        for consumer in self.redis.xinfo_consumers(STREAM, GROUP):
            if consumer["name"] == self.consumer and not consumer["pending"]:
                self.redis.xgroup_delconsumer(STREAM, GROUP, self.consumer)

    def store(self, entries: list[tuple[str, dict[str, str]]]) -> int:
        if not entries:
            return 0
        events = []
        for _, fields in entries:
            try:
                events.append(Event.decode(fields["e"]))
            except (ValueError, KeyError):
                self.set_aside(fields.get("e", ""))
        try:
            store(events)
        except (IntegrityError, DataError):
            # One of them cannot be stored, whatever the reason: find out which, and keep the rest.
            for event in events:
                try:
                    store([event])
                except (IntegrityError, DataError):
                    self.set_aside(event.encode())
        ids = [entry_id for entry_id, _ in entries]
        pipeline = self.redis.pipeline()
        pipeline.xack(STREAM, GROUP, *ids)
        pipeline.xdel(STREAM, *ids)
        pipeline.execute()
        return len(entries)

    def set_aside(self, entry: str) -> None:
        """Keep an entry for a person to look at: a bad one must neither stop the rest nor vanish."""
        logger.exception("An entry of the usage stream could not be stored and was set aside in %s", REFUSED)
        self.redis.xadd(REFUSED, {"e": entry})
