"""What this process knows of Redis being out of reach, so that not every call waits to find out."""

import logging
import time

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class Outage:
    def __init__(self) -> None:
        self.ends_at = 0.0
        self.was_seen = False

    @property
    def is_on(self) -> bool:
        """Whether Redis failed us a moment ago. It is asked again RETRY_SECONDS after each failure."""
        return self.was_seen and time.monotonic() < self.ends_at

    def begin(self) -> None:
        if not self.was_seen:
            logger.warning("Redis is out of reach: PostgreSQL decides until it answers again")
        self.was_seen = True
        self.ends_at = time.monotonic() + RETRY_SECONDS

    def end(self) -> None:
        self.was_seen = False
        self.ends_at = 0.0


outage = Outage()
