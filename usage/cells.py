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

    @property
    def is_whole(self) -> bool:
        """Whether all keys, endpoints and statuses are meant."""
        return self.api_key_id is None and self.endpoint is None and self.statuses is None

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
# What is told of several cells, or rollups, together; and of such sums once more, which has a sum for each.
MEASURES = f"""
    sum(units)::int8 AS units,
    coalesce(sum(calls) FILTER (WHERE NOT {SENT_IN}), 0)::int8 AS calls,
    coalesce(sum(calls) FILTER (WHERE {SENT_IN}), 0)::int8 AS sent_in,
    coalesce(sum(calls) FILTER (WHERE status >= 400), 0)::int8 AS errors,
    coalesce(sum(response_ms) FILTER (WHERE status <> 0), 0)::int8 AS response_ms,
    coalesce(sum(calls) FILTER (WHERE status = 0 AND NOT {SENT_IN}), 0)::int8 AS unknown"""
MEASURED = ("units", "calls", "sent_in", "errors", "response_ms", "unknown")
SUMS = ", ".join(f"sum({measure})::int8 AS {measure}" for measure in MEASURED)
# The days that lie in the scope as a whole, and the spans between them.
WHOLE_DAYS = """
    SELECT id, meter, starts_at, ends_at FROM usage_day
    WHERE organization_id = %(organization)s AND meter = ANY(%(meters)s) AND time_zone = %(time_zone)s
      AND starts_at >= %(start)s AND starts_at < %(end)s AND ends_at <= %(end)s AND late_at IS NULL"""
# Those that have totals, also in part and of another time zone: of a day that `is_whole` its own total is meant, and of
# any other the totals of its hours in the scope.
DAYS_IN_PART = """
    SELECT id, meter, starts_at, ends_at,
           starts_at >= %(start)s AND ends_at <= %(end)s AND time_zone = %(time_zone)s AS is_whole
    FROM usage_day
    WHERE organization_id = %(organization)s AND meter = ANY(%(meters)s)
      AND starts_at > %(start)s::timestamptz - interval '2 days' AND starts_at < %(end)s
      AND ends_at > %(start)s AND late_at IS NULL AND has_totals"""
ITS_HOURS = "hour >= %(start)s AND hour < %(end)s"
DAY_OR_HOURS = f"CASE WHEN is_whole THEN hour IS NULL ELSE {ITS_HOURS} END"
DAYS = """
days AS MATERIALIZED ({days}
), gaps AS MATERIALIZED (
    SELECT meter AS its_meter, after AS start, starts_at AS until FROM (
        SELECT meter, starts_at, lag(ends_at, 1, %(start)s) OVER (PARTITION BY meter ORDER BY starts_at) AS after
        FROM days
    ) AS days WHERE after < starts_at
    UNION ALL SELECT meter, coalesce(max(ends_at), %(start)s), %(end)s
    FROM unnest(%(meters)s::text[]) AS asked (meter) LEFT JOIN days USING (meter) GROUP BY meter
)"""
# One span after the other, by the index on hours: OFFSET keeps the planner from reading everything once for all.
IN_GAPS = """
    gaps CROSS JOIN LATERAL (
        SELECT * FROM usage_rollup WHERE organization_id = %(organization)s AND meter = its_meter
          AND hour >= gaps.start AND hour < gaps.until {asked} OFFSET 0
    ) AS hours"""
NUMBER_OF_METER = "array_position(%(meters)s::text[], meter::text)::int8"
NUMBER_OF_ENDPOINT = "coalesce(array_position(%(endpoints)s::text[], endpoint::text), 0)::int8"
# Bits that are left for the number of a bucket, which SHIFT leaves 15 for.
PLACES = 16
CELL = "meter, period_start, api_key_id, endpoint, status, units, calls, response_ms"


def cells(scope: Scope) -> str:
    """Return the beginning of a statement that has the scope's rows as `cells`, each `at` its hour or its day."""
    asked = scope.conditions()
    return f"""
WITH {DAYS.format(days=WHOLE_DAYS)}, cells AS (
    SELECT starts_at AS at, {CELL} FROM days JOIN usage_day_sum ON summed_day_id = days.id {asked}
    UNION ALL SELECT hour, {CELL} FROM {IN_GAPS.format(asked=asked)}
)"""  # noqa: S608  # Made of constants; what was asked for goes beside it.


def hourly_cells(scope: Scope) -> str:
    """As `cells`, each at its hour."""
    return f"""
WITH cells AS (
    SELECT hour AS at, {CELL} FROM usage_rollup
    WHERE organization_id = %(organization)s AND meter = %(meter)s AND hour >= %(start)s AND hour < %(end)s
      {scope.conditions()}
)"""  # noqa: S608  # As above.


def sums(scope: Scope, *, by_hour: bool = False) -> str:
    """Return the beginning of a statement that has what the scope measures as `sums`, by meter and period.

    Each is `at` its hour, or its day where that is summed up and not to be by hour. The scope has to be `is_whole`.
    """
    asked, which = scope.conditions(), ITS_HOURS if by_hour else DAY_OR_HOURS
    return f"""
WITH {DAYS.format(days=DAYS_IN_PART)}, sums AS (
    SELECT meter, coalesce(hour, starts_at) AS at, {", ".join(MEASURED)}
    FROM days JOIN usage_day_total ON summed_day_id = days.id AND {which} {asked}
    UNION ALL SELECT meter, hour, {MEASURES} FROM {IN_GAPS.format(asked=asked)} GROUP BY meter, hour
)"""  # noqa: S608  # As above.


def latencies(scope: Scope, *, by_endpoint: bool = False) -> str:
    """Return a statement of how many calls there were in each bucket, as (number, bucket, calls).

    The number is the meter's among %(meters)s, from 1; or the endpoint's among %(endpoints)s, 0 for all others.
    """
    asked, number = scope.conditions(), NUMBER_OF_ENDPOINT if by_endpoint else NUMBER_OF_METER
    if scope.api_key_id is not None or scope.statuses is not None:
        # By day neither is kept beside the histogram.
        begin = "WITH"
        histograms = f"""
    SELECT {number} AS number, latency FROM usage_rollup
    WHERE organization_id = %(organization)s AND meter = ANY(%(meters)s) AND {ITS_HOURS} AND status <> 0 {asked}"""  # noqa: S608  # As above.
    else:
        days, kept = DAYS_IN_PART, f"usage_day_total ON summed_day_id = days.id AND {DAY_OR_HOURS}"
        if by_endpoint or scope.endpoint is not None:
            days, kept = WHOLE_DAYS, "usage_day_latency ON summed_day_id = days.id"
        begin = f"WITH {DAYS.format(days=days)},"
        histograms = f"""
    SELECT {number} AS number, latency FROM days JOIN {kept} {asked}
    UNION ALL SELECT {number}, latency FROM {IN_GAPS.format(asked=asked)} WHERE status <> 0"""  # noqa: S608  # As above.
    # There are a hundred entries a row: whatever is done to each counts. So they are grouped by one number, which is
    # made of two, and those of the rows are found before they are taken apart: OFFSET keeps the planner from it.
    return f"""{begin} entries AS (
    SELECT number, unnest(latency) AS entry FROM ({histograms} OFFSET 0) AS histograms
), buckets AS (
    SELECT (number << {PLACES}) | (entry >> {SHIFT}) AS place, sum(entry & {MASK})::int8 AS calls
    FROM entries GROUP BY 1
)
SELECT place >> {PLACES}, place & {(1 << PLACES) - 1}, calls FROM buckets"""  # noqa: S608  # As above.


def fetch(statement: str, values: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        yield from cursor.fetchall()
