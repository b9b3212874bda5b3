"""How many units a quota's counter begins with, where Redis has none."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection

from usage.events import Event

# One statement sees one state: an event that the drain is storing counts by its row or by the sums, never by both.
COUNT = """
SELECT
    (SELECT coalesce(sum(units), 0) FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start = %(period_start)s),
    ARRAY(SELECT id FROM usage_event
          WHERE (id, occurred_at) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(times)s::timestamptz[])))
"""


def units_in_period(
    *, organization_id: UUID, meter: str, period_start: datetime, backlog: Sequence[Event]
) -> int:
    """Return the units recorded in a period: those in the ledger, and those of `backlog` that are not yet there.

    `backlog` has to be read before: what arrives on the stream later was charged to a counter that is there.
    """
    waiting = {
        event.id: event for event in backlog if event.meter == meter and event.period_start == period_start
    }
    with connection.cursor() as cursor:
        cursor.execute(
            COUNT,
            {
                "organization": organization_id,
                "meter": meter,
                "period_start": period_start,
                "ids": list(waiting),
                "times": [event.occurred_at for event in waiting.values()],
            },
        )
        units, stored = cursor.fetchone()
    return int(units) + sum(event.units for key, event in waiting.items() if key not in set(stored))
