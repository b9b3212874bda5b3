"""Hold the rollups to the ledger, and rebuild those that differ: while drains go on, and with nothing reported twice.

What a month of the ledger said can be told for as long as the month is there: rollups of a dropped one stay as they
are.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts.models import Organization
from billing.periods import Period
from usage.latency import MASK, SHIFT, SQL_BUCKET
from usage.ledger import ROLLUP, STORING
from usage.models import MeterReport, UsageRollup
from usage.partitions import existing_months
from usage.proof.hours import twins
from usage.proof.judging import Key

logger = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
# What the ledger says the rollups of some events are. A histogram has each bucket once, in order.
FROM_LEDGER = f"""
    SELECT {ROLLUP}, sum(units)::int8 AS units, sum(calls)::int8 AS calls, sum(response_ms)::int8 AS response_ms,
           array_agg((bucket << {SHIFT}) + calls ORDER BY bucket) AS latency
    FROM (
        SELECT organization_id, meter, date_trunc('hour', occurred_at, 'UTC') AS hour, period_start, api_key_id,
               endpoint, status, {SQL_BUCKET} AS bucket,
               sum(units) AS units, count(*) AS calls, sum(response_ms) AS response_ms
        FROM usage_event
        WHERE occurred_at >= %(start)s AND occurred_at < %(end)s {{condition}}
        GROUP BY {ROLLUP}, bucket
    ) AS timed
    GROUP BY {ROLLUP}
"""  # noqa: S608  # Its parts from outside the string are constants of this package.
FROM_ROLLUPS = f"""
    SELECT {ROLLUP}, units, calls, response_ms, reported_units, (
        SELECT array_agg((bucket << {SHIFT}) + calls ORDER BY bucket) FROM (
            SELECT entry >> {SHIFT} AS bucket, sum(entry & {MASK})::int8 AS calls
            FROM unnest(latency) AS entry GROUP BY 1
        ) AS added
    ) AS latency
    FROM usage_rollup WHERE hour >= %(start)s AND hour < %(end)s {{condition}}
"""  # noqa: S608  # As above.
# One statement sees one state: a batch that is being stored is in both, or in neither.
COMPARE = f"""
    SELECT organization_id, meter, hour, period_start,
           coalesce(sum(told.units), 0), coalesce(sum(kept.units), 0), coalesce(sum(kept.reported_units), 0),
           coalesce(sum(told.calls), 0), coalesce(sum(kept.calls), 0),
           coalesce(sum(told.response_ms), 0), coalesce(sum(kept.response_ms), 0)
    FROM ({FROM_LEDGER}) AS told FULL JOIN ({FROM_ROLLUPS}) AS kept USING ({ROLLUP})
    GROUP BY organization_id, meter, hour, period_start
    HAVING bool_or((told.units, told.calls, told.response_ms, told.latency)
                   IS DISTINCT FROM (kept.units, kept.calls, kept.response_ms, kept.latency))
    ORDER BY hour, organization_id, meter, period_start
"""  # noqa: S608  # As above.


@dataclass(frozen=True, slots=True)
class Difference:
    """Rollups of one organization, meter, hour and period that are not what the ledger says."""

    organization_id: UUID
    meter: str
    hour: datetime
    period_start: datetime
    ledger_units: int
    rollup_units: int
    reported_units: int
    what: str  # "units", "calls", "response times"; or "parts": only how they are split or timed.

    @property
    def is_mendable(self) -> bool:
        """Whether the rollups can become what the ledger says: not below what has been reported."""
        return self.ledger_units >= self.reported_units

    def __str__(self) -> str:
        said = (
            f"{self.organization_id} {self.meter} {self.hour:%Y-%m-%d %H}h, period of {self.period_start:%Y-%m-%d}: "
            f"the ledger has {self.ledger_units} units, the rollups {self.rollup_units}; what differs: {self.what}"
        )
        if self.is_mendable:
            return said
        return f"{said}. {self.reported_units} were reported: a person has to see to it"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was found, and of that, what was mended and what is left for a person."""

    found: list[Difference] = field(default_factory=list)
    mended: list[Difference] = field(default_factory=list)
    left: list[Difference] = field(default_factory=list)
    doubled: list[Difference] = field(default_factory=list)  # Of those left: rows of the ledger look doubled.


def compare(
    *, start: datetime | None = None, end: datetime | None = None, organization: Organization | None = None
) -> Iterator[Difference]:
    """Yield where the rollups differ from the ledger, in the hours from `start` on and before `end`, month by month.

    Left out are months that the ledger does not have.
    """
    for month in existing_months():
        first = max(month.start, start.replace(minute=0, second=0, microsecond=0)) if start else month.start
        last = min(month.end, end) if end else month.end
        if first < last:
            yield from compare_span(Period(first, last), organization)


def compare_span(span: Period, organization: Organization | None) -> list[Difference]:
    condition = "AND organization_id = %(organization)s" if organization else ""
    with connection.cursor() as cursor:
        cursor.execute(
            COMPARE.format(condition=condition),
            {
                "start": span.start,
                "end": whole_hours(span.end),
                "organization": organization.pk if organization else None,
            },
        )
        return [difference(row) for row in cursor.fetchall()]


def whole_hours(end: datetime) -> datetime:
    """Return the end of the hour that `end` lies in: both sides of a comparison see whole hours."""
    begun = end.replace(minute=0, second=0, microsecond=0)
    return end if begun == end else begun + HOUR


def difference(row: Sequence[Any]) -> Difference:
    organization_id, meter, hour, period_start, *numbers = row
    told, kept, reported, told_calls, kept_calls, told_ms, kept_ms = map(int, numbers)
    if told != kept:
        what = "units"
    elif told_calls != kept_calls:
        what = "calls"
    else:
        what = "response times" if told_ms != kept_ms else "parts"
    return Difference(organization_id, meter, hour, period_start, told, kept, reported, what)


def rebuild(
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    organization: Organization | None = None,
    counts_doubled: bool = False,
) -> Rebuilt:
    """Make the rollups what the ledger says; return what that took. Safe to repeat, and to run while usage comes in.

    What was reported of an hour stays reported. Where the ledger has less than that nothing is changed. Nor is an hour
    in which it has more than the rollups, and rows that are alike but for their ids: those would be billed. Unless
    it `counts_doubled`.
    """
    rebuilt = Rebuilt()
    for found in compare(start=start, end=end, organization=organization):
        rebuilt.found.append(found)
        if not counts_doubled and looks_doubled(found):
            logger.error("Rollups are not rebuilt, as rows of the ledger look doubled: %s", found)
            rebuilt.left.append(found)
            rebuilt.doubled.append(found)
        elif rebuild_hour(found):
            rebuilt.mended.append(found)
        else:
            logger.error("Rollups cannot be rebuilt: %s", found)
            rebuilt.left.append(found)
    return rebuilt


def looks_doubled(found: Difference) -> bool:
    """Whether the ledger has more of an hour than the rollups, and in it rows that are alike but for their ids."""
    if found.ledger_units <= found.rollup_units:
        return False
    key = Key(found.organization_id, found.meter, found.period_start)
    return bool(twins(key, found.hour))


def rebuild_hour(found: Difference) -> bool:
    """Rebuild the rollups of one organization, meter, hour and period. Return False where the ledger has too little.

    Whoever stores events waits meanwhile, which is a few milliseconds.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STORING])
        old = {
            (row.api_key_id, row.endpoint, row.status): row
            for row in UsageRollup.objects.filter(
                organization_id=found.organization_id,
                meter=found.meter,
                hour=found.hour,
                period_start=found.period_start,
            )
            .in_order()
            .select_for_update()
        }
        new = read_hour(cursor, found)
        reported = sum(row.reported_units for row in old.values())
        told = sum(row.units for row in new.values())
        if told < reported:
            return False
        # Of sums that were lost it is their reports that say what of them was reported.
        reported = max(reported, min(told, held_by_reports(found)))
        spread_reported(new, old, reported)
        gone = [row.pk for key, row in old.items() if key not in new]
        UsageRollup.objects.filter(pk__in=gone).delete()
        for key, row in new.items():
            if key in old:
                row.pk = old[key].pk
                row.save(update_fields=["units", "calls", "response_ms", "latency", "reported_units"])
            else:
                row.save(force_insert=True)
    return True


def held_by_reports(found: Difference) -> int:
    reports = MeterReport.objects.filter(
        organization=found.organization_id,
        meter__slug=found.meter,
        hour=found.hour,
        period_start=found.period_start,
    )
    return sum(reports.values_list("units", flat=True))


def read_hour(cursor: CursorWrapper, found: Difference) -> dict[tuple[UUID, str, int], UsageRollup]:
    """Return the rollups that the ledger says there should be, by key, endpoint and status."""
    condition = (
        "AND organization_id = %(organization)s AND meter = %(meter)s AND period_start = %(period_start)s"
    )
    cursor.execute(
        FROM_LEDGER.format(condition=condition),
        {
            "start": found.hour,
            "end": found.hour + HOUR,
            "organization": found.organization_id,
            "meter": found.meter,
            "period_start": found.period_start,
        },
    )
    rows = {}
    for organization_id, meter, hour, period_start, key, endpoint, status, *sums in cursor.fetchall():
        units, calls, response_ms, latency = sums
        rows[key, endpoint, status] = UsageRollup(
            organization_id=organization_id,
            meter=meter,
            hour=hour,
            period_start=period_start,
            api_key_id=key,
            endpoint=endpoint,
            status=status,
            units=units,
            calls=calls,
            response_ms=response_ms,
            latency=latency,
        )
    return rows


def spread_reported(
    new: dict[tuple[UUID, str, int], UsageRollup],
    old: dict[tuple[UUID, str, int], UsageRollup],
    reported: int,
) -> None:
    """Give out what was reported among the new rows: first where it was, then wherever there is room."""
    left = reported
    for key, row in new.items():
        row.reported_units = min(row.units, old[key].reported_units) if key in old else 0
        left -= row.reported_units
    for row in new.values():
        more = min(left, row.units - row.reported_units)
        row.reported_units += more
        left -= more
