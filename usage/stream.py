"""The Redis stream between the call that was served and the ledger. At least once: a batch is
acknowledged after its transaction has committed, and taken over from a reader that died before.

What Redis took and the ledger does not have is as safe as Redis is, 200 bytes and a little an event. With appendonly
and everysec a second's or two of calls go when its machine does, and at most two seconds' when Redis alone is killed:
what it took while an fsync was under way, which it answers before it writes. With appendfsync always nothing goes.
Without appendonly all that waits goes with it, which is what came since the drain's last batch. With no room left Redis
refuses an entry, and it goes to PostgreSQL; with an eviction policy it may drop the whole stream instead, or what says
who has what of it in hand.
"""

import logging
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from datetime import datetime, timedelta
from struct import error as StructError
from typing import Any, NamedTuple

from django.db import DataError, IntegrityError
from redis.exceptions import ResponseError

from accounts import clock
from billing.periods import Period
from usage.batches import Batch, microseconds
from usage.events import EPOCH, Event
from usage.holds import holds_of
from usage.ledger import store, store_new
from usage.lines import lines
from usage.partitions import OutOfReach, ready_span
from usage.reading import PAGE, Id, Page, Reader
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

STREAM = "tollgate:usage:events"
REFUSED = "tollgate:usage:unreadable"
GROUP = "drain"
BATCH = 2000
MOST = 100_000  # Entries that are stored in one transaction where the drain is behind.
TAKE_OVER_AFTER_MS = 30_000
PAUSE_SECONDS = 0.05
FORGET_AFTER_MS = 3_600_000


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
    group = next((each for each in groups if each["name"] == GROUP), {"consumers": 0})
    began = order_of(oldest[0][0])[0] / 1000 if oldest else None
    return State(
        entries=redis.xlen(STREAM),
        pending=sum(hold.size for hold in holds_of(STREAM)),
        oldest_age=0 if began is None else max(seconds + microseconds / 1_000_000 - began, 0),
        consumers=group["consumers"],
        unreadable=redis.xlen(REFUSED),
    )


def last_id() -> str:
    """Return the id of the newest entry that was ever appended. Raises redis.exceptions.RedisError."""
    lines.confirm()
    info: Any = get_redis().xinfo_stream(STREAM)
    return str(info["last-generated-id"])


def oldest_at() -> datetime | None:
    """Return when the oldest entry that is still in the stream was appended. Raises redis.exceptions.RedisError."""
    first: Any = get_redis().xrange(STREAM, count=1)
    return EPOCH + timedelta(milliseconds=order_of(first[0][0])[0]) if first else None


def is_stored(up_to: str) -> bool:
    """Whether every entry up to the id `up_to` has been read and acknowledged, by whichever reader."""
    redis = get_redis()
    groups: Any = redis.xinfo_groups(STREAM)
    group = next((group for group in groups if group["name"] == GROUP), None)
    # What the group itself says to be in hand is so since version 0.1, and nobody has taken it over yet.
    delivered = group["last-delivered-id"] if group and not group["pending"] else "0-0"
    waiting = any(order_of(hold.first) <= order_of(up_to) for hold in holds_of(STREAM))
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
        self.consumer = consumer or uuid.uuid4().hex
        self.reader = Reader(STREAM, GROUP, self.consumer)
        self.span: Period | None = None

    def run_once(self, *, block_ms: int | None = None) -> int:
        """Store one batch; return how many entries it had. Waits up to `block_ms` for the first one."""
        lines.confirm()  # What this very process has handed over is there before it is read.
        first = self.reader.read(block_ms=block_ms)
        if not first.ids:
            return 0
        entries = Page([], [])
        span = self.find_span()
        batch = Batch(start=microseconds(span.start), end=microseconds(span.end))
        try:
            with closing(self.pages(first, entries)) as pages:
                store_new(batch, map(batch.add, pages))
        except (IntegrityError, DataError, StructError):
            # One is there already, or cannot be stored: which, the exact way tells.
            self.span = None
            return self.store(entries)
        if batch.odd:
            odd = set(batch.odd)
            kept = self.store_exactly((id_, text) for id_, text in zip(*entries, strict=True) if text in odd)
            entries = entries.without(kept)
        self.reader.acknowledge(entries.ids)
        return len(entries.ids)

    def pages(self, page: Page, entries: Page) -> Generator[list[bytes], None, None]:
        """Yield what the pages say, the first and all that follow it up to MOST entries, and keep them in `entries`.

        While one is being stored Redis looks for the next.
        """
        try:
            while page.ids:
                entries.add(page)
                if len(page.ids) == PAGE and len(entries.ids) < MOST:
                    self.reader.begin_reading()
                    yield page.texts
                    page = self.reader.finish_reading()
                else:
                    yield page.texts
                    return
        finally:
            if self.reader.is_asked:
                entries.add(self.reader.finish_reading())

    def find_span(self) -> Period:
        """Return the time whose events can be copied straight into the ledger, because its months are there."""
        now = clock.now()
        if self.span is None or now not in self.span:
            self.span = ready_span(now)
        return self.span

    def take_over(self, *, idle_ms: int = TAKE_OVER_AFTER_MS) -> int:
        """Store what a reader took and has not acknowledged for `idle_ms`; return how many entries that was.

        Those that could not be dealt with are among them: they are not due for as long again.
        """
        entries = self.reader.claim(idle_ms=idle_ms)
        self.store(entries)
        return len(entries.ids)

    def recover(self) -> int:
        """Store what this reader itself took and could not finish, because a store failed; return how much that was."""
        found = 0
        while stored := self.store(self.reader.claim(idle_ms=0, of=self.consumer)):
            found += stored
        return found

    def clean_up(self, *, idle_ms: int = FORGET_AFTER_MS) -> int:
        """Take the names of readers off the group that died long ago; return how many. This one shows itself."""
        self.reader.show()
        self.reader.free()
        return self.reader.remove(idle_ms=idle_ms)

    def leave(self) -> None:
        """Take this reader off the group, unless entries still hang on its name."""
        self.reader.remove(self.consumer)
        self.reader.close()

    def store(self, entries: Page) -> int:
        """Store entries some of which may be in the ledger already; return how many were dealt with."""
        done = entries.without(self.store_exactly(zip(*entries, strict=True)))
        self.reader.acknowledge(done.ids)
        return len(done.ids)

    def store_exactly(self, entries: Iterable[tuple[Id, bytes]]) -> set[Id]:
        """Store what is new and set aside what cannot be stored; return the ids of what could not be set aside."""
        events: list[tuple[Id, bytes, Event]] = []
        refused: list[tuple[Id, bytes, str]] = []
        for id_, text in entries:
            try:
                events.append((id_, text, Event.decode(text.decode(errors="replace"))))
            except ValueError as error:
                refused.append((id_, text, str(error)))
        refused += store_all_but(events)
        return {id_ for id_, text, why in refused if not set_aside(text, why)}


def store_all_but(events: list[tuple[Id, bytes, Event]]) -> list[tuple[Id, bytes, str]]:
    """Store events, and return those that cannot be, with the reason.

    They are found by halves: one in a batch of thousands costs a dozen further tries, and the others are stored.
    """
    try:
        store([event for _, _, event in events])
    except (IntegrityError, DataError, OutOfReach) as error:
        if len(events) == 1:
            return [(events[0][0], events[0][1], str(error))]
        half = len(events) // 2
        return store_all_but(events[:half]) + store_all_but(events[half:])
    return []


def set_aside(text: bytes, why: str) -> bool:
    """Keep an entry for a person to look at: a bad one must neither stop the rest nor vanish. Return whether it is.

    Raises RedisError, except where Redis has no room for it: the entry stays where it is then, and is tried again.
    """
    logger.error("An entry of the usage stream could not be stored and is set aside in %s: %s", REFUSED, why)
    try:
        get_redis().xadd(REFUSED, {"e": text})
    except ResponseError as error:
        logger.error("Redis did not take it either: %s", error)
        return False
    return True
