"""Bill reservations that nobody settled, so that forgetting to settle gives nothing away."""

import logging
from datetime import timedelta
from typing import Any

from accounts import clock
from accounts.models import Organization
from apikeys.checks import batches
from apikeys.instants import to_microseconds
from apikeys.reservation_settlement import finish
from apikeys.reservations import INDEX, TERM, Reservation, held_by, names
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

# A member of the index that is no ref: while it is there, the index is known to name all who have reservations.
WHOLE = "*"
LOOK_EVERY = timedelta(days=1)


def sweep() -> int:
    """Bill what is overdue, and finish what was settled and not stored; return how many were billed.

    An organization leaves the index a while after its last reservation, and only where it has none: by one command
    that spares whoever was announced meanwhile. Raises RedisError.
    """
    redis = get_redis()
    now = clock.now()
    refs: Any = redis.zrange(INDEX, 0, -1)
    if WHOLE not in refs:
        refs = look_everywhere()
    billed = 0
    for ref in refs:
        if ref.startswith(WHOLE):
            continue
        count, is_empty = sweep_one(ref)
        billed += count
        if not is_empty:
            redis.zadd(INDEX, {ref: to_microseconds(now + TERM)}, gt=True)
    redis.zremrangebyscore(INDEX, "-inf", to_microseconds(now - TERM))
    return billed


def sweep_one(ref: str) -> tuple[int, bool]:
    """Return how many of the organization's reservations were billed, and whether it has none. Raises RedisError."""
    billed, is_empty = 0, True
    for id, record in held_by(ref):
        is_empty = False
        try:
            reservation = Reservation.read(ref, record)
        except ValueError:
            logger.exception("Reservation %s of %s cannot be read: it stays as it is", id, ref)
            continue
        if clock.now() >= reservation.due:
            billed += finish(reservation)
    return billed, is_empty


def look_everywhere() -> list[str]:
    """Make the index anew from every organization's own key, and return whom it names. Raises RedisError.

    At the first sweep, once a day, and after the index was lost: in a cluster it may be lost alone.
    """
    redis = get_redis()
    now = clock.now()
    looking = f"{WHOLE}{to_microseconds(now)}"
    redis.zadd(INDEX, {looking: to_microseconds(now + TERM)})
    refs = Organization.objects.order_by("pk").values_list("ref", flat=True)
    for batch in batches(refs):
        pipeline = redis.pipeline(transaction=False)
        for ref in batch:
            pipeline.exists(names(ref, "").held)
        found = {ref for ref, there in zip(batch, pipeline.execute(), strict=True) if there}
        if found:
            redis.zadd(INDEX, {ref: to_microseconds(now + TERM) for ref in found}, gt=True)
    if redis.zrem(INDEX, looking):  # Else the index was lost meanwhile: the next sweep looks again.
        redis.zadd(INDEX, {WHOLE: to_microseconds(now + LOOK_EVERY + TERM)})
    named: list[str] = redis.zrange(INDEX, 0, -1)  # type: ignore[assignment]  # It may be awaited elsewhere.
    return named
