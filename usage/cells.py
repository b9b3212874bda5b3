"""Where every page's and answer's numbers are read from: the sums by day, and rollups for what they do not hold.

In one statement, which sees one state: an hour is read from one of the two and never from both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from accounts.models import Organization
from usage.counting import NO_KEY
from usage.latency import MASK, SHIFT


class Statuses(NamedTuple):
    """Answers' statuses from `low` to `high`, both included. 0 is none: see `SENT_IN`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage is meant, and which: in the hours that begin from `start` up to `end`.

    With `period_starts` only what is charged to the periods that began then. `time_zone` is that of the days that it
    will be shown by. `beside` are other meters that are read in the same statement.
    """

    organization: Organization
    meter: str
    start: datetime
    end: datetime
    time_zone: str
    period_starts: tuple[datetime, ...] = ()
    api_key_id: UUID | None = None
    endpoint: str | None = None
    statuses: Statuses | None = None
    beside: tuple[str, ...] = ()

    def conditions(self) -> str:
        """Return what is asked of a row beside its organization, meter and hour."""
        wanted = [
            ("AND period_start = ANY(%(period_starts)s)", self.period_starts),
            ("AND api_key_id = %(api_key_id)s", self.api_key_id is not None),
            ("AND endpoint = %(endpoint)s", self.endpoint is not None),
            ("AND status BETWEEN %(low)s AND %(high)s", self.statuses is not None),
        ]
        return " ".join(sql for sql, is_wanted in wanted if is_wanted)

    def values(self) -> dict[str, Any]:
        low, high = self.statuses or (None, None)
        return {
            "organization": self.organization.pk,
            "meter": self.meter,
            "meters": [self.meter, *self.beside],
            "start": self.start,
            "end": self.end,
            "time_zone": self.time_zone,
            "period_starts": list(self.period_starts),
            "api_key_id": self.api_key_id,
            "endpoint": self.endpoint,
            "low": low,
            "high": high,
        }


# What has no status was sent in where no key was used, and else is a call whose status is not known: one that was
# charged before it was answered.
SENT_IN = f"(status = 0 AND api_key_id = '{NO_KEY}')"
# The days that lie in the scope as a whole, and the spans between them.
DAYS = """
days AS MATERIALIZED (
    SELECT id, meter, starts_at, ends_at FROM usage_day
    WHERE organization_id = %(organization)s AND meter = ANY(%(meters)s) AND time_zone = %(time_zone)s
      AND starts_at >= %(start)s AND starts_at < %(end)s AND ends_at <= %(end)s AND late_at IS NULL
), gaps AS MATERIALIZED (
    SELECT meter, after AS start, starts_at AS until FROM (
        SELECT meter, starts_at, lag(ends_at, 1, %(start)s) OVER (PARTITION BY meter ORDER BY starts_at) AS after
        FROM days
    ) AS days WHERE after < starts_at
    UNION ALL SELECT meter, coalesce(max(ends_at), %(start)s), %(end)s
    FROM unnest(%(meters)s::text[]) AS asked (meter) LEFT JOIN days USING (meter) GROUP BY meter
)"""
# One span after the other, by the index on hours: OFFSET keeps the planner from reading everything once for all.
IN_GAPS = """
    gaps CROSS JOIN LATERAL (
        SELECT * FROM usage_rollup WHERE organization_id = %(organization)s AND meter = gaps.meter
          AND hour >= gaps.start AND hour < gaps.until {asked} OFFSET 0
    ) AS hours"""
CELL = "meter, period_start, api_key_id, endpoint, status, units, calls, response_ms"


def cells(scope: Scope) -> str:
    """Return the beginning of a statement that has the scope's rows as `cells`, each `at` its hour or its day."""
    asked = scope.conditions()
    return f"""
WITH {DAYS}, cells AS (
    SELECT starts_at AS at, {CELL} FROM days JOIN usage_day_sum ON summed_day_id = days.id {asked}
    UNION ALL SELECT hour, hours.{CELL} FROM {IN_GAPS.format(asked=asked)}
)"""  # noqa: S608  # Made of constants; what was asked for goes beside it.


def hourly_cells(scope: Scope) -> str:
    """As `cells`, each at its hour."""
    return f"""
WITH cells AS (
    SELECT hour AS at, {CELL} FROM usage_rollup
    WHERE organization_id = %(organization)s AND meter = %(meter)s AND hour >= %(start)s AND hour < %(end)s
      {scope.conditions()}
)"""  # noqa: S608  # As above.


def latencies(scope: Scope) -> str:
    """Return the beginning of a statement that has the calls by meter, endpoint and bucket as `buckets`."""
    asked = scope.conditions()
    # By day only the endpoint is kept beside the histogram.
    if scope.api_key_id is None and scope.statuses is None:
        by_day = f"""
    SELECT days.meter, endpoint, entry FROM days JOIN usage_day_latency ON summed_day_id = days.id {asked},
        unnest(latency) AS entry
    UNION ALL SELECT hours.meter, endpoint, entry
    FROM {IN_GAPS.format(asked=asked)}, unnest(latency) AS entry WHERE status <> 0"""  # noqa: S608  # As above.
        head = f"{DAYS}, "
    else:
        by_day = f"""
    SELECT meter, endpoint, entry FROM usage_rollup, unnest(latency) AS entry
    WHERE organization_id = %(organization)s AND meter = ANY(%(meters)s) AND hour >= %(start)s AND hour < %(end)s
      AND status <> 0 {asked}"""  # noqa: S608  # As above.
        head = ""
    return f"""
WITH {head}entries AS ({by_day}
), buckets AS (
    SELECT meter, endpoint, entry >> {SHIFT} AS bucket, sum(entry & {MASK})::int8 AS calls
    FROM entries GROUP BY 1, 2, 3
)"""  # noqa: S608  # As above.


def fetch(statement: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        yield from cursor.fetchall()
