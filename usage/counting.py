"""How many units a quota's counter begins with, where Redis has none."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from billing.models import Entitlement
from usage.events import Event

# Of events that came in by themselves, with no call: no key was used.
NO_KEY = UUID(int=0)
# One statement sees one state: an event that the drain is storing counts by its row or by the sums, never by both.
COUNT = """
SELECT
    (SELECT coalesce(sum(units), 0) FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start = %(period_start)s),
    (SELECT coalesce(sum(units), 0) FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start = %(period_start)s
       AND api_key_id = %(no_key)s),
    ARRAY(SELECT id FROM usage_event
          WHERE (id, occurred_at) IN (SELECT * FROM unnest(%(ids)s::uuid[], %(times)s::timestamptz[])))
"""
# Whole hours by their sums; only the hour of the moment itself is looked up in the ledger.
COUNT_UP_TO = """
SELECT
    (SELECT coalesce(sum(units), 0) FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start = ANY(%(starts)s)
       AND api_key_id <> %(no_key)s AND hour < %(hour)s)
    + (SELECT coalesce(sum(units), 0) FROM usage_event
       WHERE organization_id = %(organization)s AND occurred_at >= %(hour)s AND occurred_at <= %(moment)s
         AND meter = %(meter)s AND period_start = ANY(%(starts)s) AND api_key_id <> %(no_key)s),
    (SELECT coalesce(sum(units), 0) FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start = ANY(%(starts)s)
       AND api_key_id = %(no_key)s)
"""


# What the sums say of several accounts at once.
SUMS = """
SELECT wanted.number, coalesce(sum(usage_rollup.units), 0)
FROM unnest(%(numbers)s::int[], %(organizations)s::uuid[], %(meters)s::text[], %(starts)s::timestamptz[])
    AS wanted (number, organization_id, meter, period_start)
JOIN usage_rollup USING (organization_id, meter, period_start)
GROUP BY wanted.number
"""


class Account(NamedTuple):
    """What counts against one quota: an organization's units of a meter in the periods that began at `starts`."""

    organization_id: UUID
    meter: str
    starts: list[datetime]

    @classmethod
    def of(cls, entitlement: Entitlement, meter: str) -> "Account":
        return cls(entitlement.organization_id, meter, entitlement.counted_starts)


def units_of(accounts: Sequence[Account]) -> list[int]:
    """Return the units that the ledger's sums have of each account."""
    wanted = [(number, each, start) for number, each in enumerate(accounts) for start in each.starts]
    found = [0] * len(accounts)
    with connection.cursor() as cursor:
        cursor.execute(
            SUMS,
            {
                "numbers": [number for number, _, _ in wanted],
                "organizations": [each.organization_id for _, each, _ in wanted],
                "meters": [each.meter for _, each, _ in wanted],
                "starts": [start for _, _, start in wanted],
            },
        )
        for number, units in cursor.fetchall():
            found[number] = int(units)
    return found


class Counted(NamedTuple):
    """Units of a period: all of them, and of those what came in as events, with no call."""

    units: int
    ingested: int


def units_in_period(
    *, organization_id: UUID, meter: str, period_start: datetime, backlog: Sequence[Event]
) -> int:
    """Return the units recorded in a period, as `count_period` does."""
    return count_period(
        organization_id=organization_id, meter=meter, period_start=period_start, backlog=backlog
    ).units


def count_period(
    *, organization_id: UUID, meter: str, period_start: datetime, backlog: Sequence[Event]
) -> Counted:
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
                "no_key": NO_KEY,
                "ids": list(waiting),
                "times": [event.occurred_at for event in waiting.values()],
            },
        )
        units, ingested, stored = cursor.fetchone()
    known = set(stored)
    units += sum(event.units for key, event in waiting.items() if key not in known)
    return Counted(int(units), int(ingested))


def count_up_to(
    moment: datetime, *, organization_id: UUID, meter: str, starts: Sequence[datetime]
) -> tuple[int, int]:
    """Return the units in the ledger of calls that were admitted by `moment`, and of all events with no call."""
    hour = moment - timedelta(minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond)
    with connection.cursor() as cursor:
        cursor.execute(
            COUNT_UP_TO,
            {
                "organization": organization_id,
                "meter": meter,
                "starts": list(starts),
                "no_key": NO_KEY,
                "hour": hour,
                "moment": moment,
            },
        )
        called, ingested = cursor.fetchone()
    return int(called), int(ingested)
