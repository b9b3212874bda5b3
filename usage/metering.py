"""Record served calls."""

import logging

from redis.exceptions import RedisError

from usage import ledger, stream
from usage.events import Event

logger = logging.getLogger(__name__)


def record(event: Event) -> None:
    """Hand an event to the ledger: by the stream, or, with Redis out of reach, straight to PostgreSQL."""
    try:
        stream.append(event)
    except RedisError:
        logger.warning("Redis is unreachable: usage event %s goes straight to PostgreSQL", event.id)
        ledger.store([event])
