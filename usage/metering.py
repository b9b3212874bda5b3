"""Record served calls."""

import logging
from collections import deque
from functools import partial

from django.db import InterfaceError, OperationalError, connection
from redis.exceptions import RedisError

from usage import ledger, stream
from usage.events import Event
from usage.models import UsageEvent
from usage.outage import outage
from usage.pressure import pressure
from usage.signals import event_delayed

logger = logging.getLogger(__name__)

# Events that neither store would take, until one does.
homeless: deque[Event] = deque()


def record(event: Event) -> None:
    """Hand an event to the ledger: by the stream, or, with Redis out of reach, straight to PostgreSQL.

    Where the stream is too long it goes to PostgreSQL too: see `usage.pressure`.
    It does not wait for Redis's answer. Should that be a no, or never come, the event goes to PostgreSQL then:
    the ledger takes it once, whichever way it arrives, and however often.
    """
    if pressure.is_on and pressure.take(event):
        return
    if not outage.is_on:
        try:
            stream.append(event, failed=partial(store_directly, event))
        except RedisError:
            outage.begin()
        else:
            return
    store_directly(event)


def store_directly(event: Event) -> None:
    """Store an event past the stream; with PostgreSQL out of reach too, keep it until either is back."""
    logger.warning("Redis is unreachable: usage event %s goes straight to PostgreSQL", event.id)
    try:
        ledger.store([event])
    except (OperationalError, InterfaceError):
        logger.error("PostgreSQL is unreachable too: usage event is kept in memory: %s", event.encode())
        homeless.append(event)
        stream.retry_later(house)


def house() -> bool:
    """Try again with the events that nobody would take; return whether none is left."""
    for _ in range(len(homeless)):
        event = homeless[0]
        try:
            event_delayed.send(sender=UsageEvent, event=event)
            ledger.store([event])
        except (OperationalError, InterfaceError):
            if not connection.in_atomic_block:
                connection.close()  # The next try begins with a fresh one.
            return False
        homeless.popleft()
    return True
