"""After the call: what it came to goes into the ledger, and what was charged too much back to the quota."""

import logging

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from apikeys import late, without_redis
from apikeys.decision import Decision
from apikeys.gate import give_back
from usage import metering
from usage.events import Event

logger = logging.getLogger(__name__)


def settle(decision: Decision, *, units: int, event: Event | None, is_late: bool = False) -> None:
    """Write down what an admitted call came to: `units` of what it was charged, 0 where it was not served.

    `event` is for the ledger, of as many units; None where nothing belongs there. `is_late` where the call took so
    long that it may have been taken for dead: see `apikeys.drift`. No outage makes this fail.
    """
    if decision.uncounted_id is not None:
        try:
            if without_redis.settle(decision, units=units, event=event):
                return
        except (OperationalError, InterfaceError):
            # The row stays, and is counted; the event is kept until PostgreSQL is back.
            if event:
                metering.store_directly(event)
            return
        event = None  # It is stored. But the row was taken up by the counter in the meantime.
    if units < decision.cost or is_late:
        try:
            give_back(decision, units=decision.cost - units, is_late=is_late)
        except RedisError:
            logger.warning(
                "Redis is unreachable: units of %s stay charged to %s", decision.meter, decision.ref
            )
            if is_late and event:
                late.store(event)
                return
    if event:
        metering.record(event)
