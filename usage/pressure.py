"""Back-pressure: what happens where events come faster than they are drained.

The stream lies in Redis's memory, about 200 bytes an event: a million take 200 MB. Where it is longer than
STREAM_LIMIT, each call writes its event to PostgreSQL itself, before it is answered: the stream stops growing, and who
calls waits for the store that is the bottleneck, which slows them down. Below four fifths of the limit calls go back
to the stream.

The length is looked at by each process, at most once a second and by the thread that reads Redis's answers, not on a
call's way. So the stream may grow beyond the limit by what is appended within a second and a bit.

While PostgreSQL does not take an event either, the stream does, whatever its length: Redis's memory is then the last
place there is. PostgreSQL is tried again after PAUSE_SECONDS.
"""

import logging
import time

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from redis.exceptions import RedisError

from usage import ledger, stream
from usage.events import Event
from usage.lines import lines

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
PAUSE_SECONDS = 5.0
EASES_AT = 0.8


class Pressure:
    """What this process knows of the stream's length."""

    def __init__(self) -> None:
        self.is_on = False
        self.looks_at = 0.0
        self.waits_until = 0.0

    def look(self) -> None:
        """Look at the stream, unless it was looked at a moment ago."""
        now = time.monotonic()
        if now < self.looks_at:
            return
        self.looks_at = now + LOOK_EVERY
        try:
            length = stream.length()
        except RedisError:
            return  # Then calls find that out themselves.
        self.judge(length)

    def judge(self, length: int) -> None:
        limit = settings.STREAM_LIMIT
        if not self.is_on and length > limit:
            self.is_on = True
            logger.warning("%d usage events wait on the stream: calls write to PostgreSQL themselves", length)
            # Nothing is appended now, and so nobody would look again.
            lines.repeat(self.has_eased)
        elif self.is_on and length < limit * EASES_AT:
            self.is_on = False
            logger.warning("%d usage events wait on the stream: calls write to it again", length)

    def has_eased(self) -> bool:
        self.look()
        return not self.is_on

    def take(self, event: Event) -> bool:
        """Store an event past the stream, where that is due; return whether it is stored."""
        if not self.is_on or time.monotonic() < self.waits_until:
            return False
        try:
            ledger.store([event])
        except (DatabaseError, InterfaceError):
            self.waits_until = time.monotonic() + PAUSE_SECONDS
            logger.warning(
                "PostgreSQL does not take usage events either: they go to the stream, however long"
            )
            if not connection.in_atomic_block:
                connection.close()
            return False
        return True

    def forget(self) -> None:
        self.__init__()  # type: ignore[misc]


pressure = Pressure()
lines.watch(pressure.look)
