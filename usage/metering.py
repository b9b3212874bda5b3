"""Record served calls."""

import atexit
import logging
from functools import partial
from uuid import UUID

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connection, transaction
from redis.exceptions import RedisError

from usage import ledger, stream
from usage.events import Event
from usage.models import UsageEvent
from usage.outage import outage
from usage.partitions import OutOfReach
from usage.pressure import pressure
from usage.signals import event_delayed

logger = logging.getLogger(__name__)

# Events that neither store would take, until one does, by id. Two threads may look for a home for one.
homeless: dict[UUID, Event] = {}


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
    """Store an event past the stream; with PostgreSQL out of reach too, keep it until either is back.

    It is kept as well where this happens in somebody's transaction: Redis's answer is read by whoever asks it next,
    and what they undo must not take the event along.
    """
    logger.warning("Redis is unreachable: usage event %s goes straight to PostgreSQL", event.id)
    try:
        with transaction.atomic(durable=True):
            ledger.store([event])
    except (IntegrityError, DataError, OutOfReach) as error:
        if not is_set_aside(event, why=str(error)):
            keep(event, "no store takes it")
    except (DatabaseError, InterfaceError):
        keep(event, "PostgreSQL is unreachable too")
    except RuntimeError:  # Django's word for a transaction that is not the outermost.
        keep(event, "a transaction is under way")
    except Exception as error:  # Whatever it was, the event is not in the ledger, and nobody else has it.
        keep(event, f"storing it failed: {type(error).__name__}: {error}")


def keep(event: Event, why: str) -> None:
    logger.error("Usage event is kept in memory, as %s: %s", why, event.encode())
    homeless[event.id] = event
    stream.retry_later(house)


def kept_events(organization_id: UUID) -> list[Event]:
    """Return those of the organization's events that this process keeps. Each stays until it is in the ledger."""
    return [event for event in list(homeless.values()) if event.organization_id == organization_id]


def is_set_aside(event: Event, *, why: str) -> bool:
    """Have a person look at an event that the ledger will never take; return whether Redis has it for them."""
    try:
        return stream.set_aside(event.encode().encode(), why)
    except RedisError:
        return False


def house() -> bool:
    """Try again with the events that nobody would take; return whether none is left."""
    for event in list(homeless.values()):
        try:
            event_delayed.send(sender=UsageEvent, event=event)
            has_home = is_taken(event)
        except (DatabaseError, InterfaceError, RedisError):
            if not connection.in_atomic_block:
                connection.close()  # The next try begins with a fresh one.
            return False
        except Exception:  # One event's failure keeps no other from its home; it is tried again itself.
            logger.exception("Usage event %s is still kept in memory", event.id)
            continue
        if has_home:
            homeless.pop(event.id, None)
    return not homeless


def is_taken(event: Event) -> bool:
    """Hand an event to whichever store is back; return False for one that has to wait, and stops no other.

    Raises RedisError where neither is.
    """
    try:
        ledger.store([event])
    except (IntegrityError, DataError, OutOfReach) as error:
        return is_set_aside(event, why=str(error))
    except (DatabaseError, InterfaceError):
        stream.deliver(event)
    return True


# Before the lines read their last answers: what those bring is stored at once then.
atexit.register(house)
