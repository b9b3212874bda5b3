"""Sum the rollups up by local day.

The sums are for readers alone, who take the rollups themselves for what is not summed up yet or is out of date.
So nothing is wrong where this has not run, only slower. What keeps them true is a trigger: whoever writes a rollup
of an hour long past, in whatever way, marks the day that holds it.
"""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import connection, transaction
from django.db.models import F, Q

from accounts.models import Organization
from usage.cells import MEASURED, MEASURES
from usage.latency import MASK, SHIFT
from usage.local_time import Interval, following, hour_start, starts_between
from usage.models import SummedDay, UsageRollup

logger = logging.getLogger(__name__)

# An hour is summed up two hours after it began, and the trigger looks at rows of hours that began more than 65
# minutes ago: a transaction may write for 55 minutes and still be seen by one or the other.
SETTLED_AFTER = timedelta(hours=2)
# How far back days are looked for that were never summed up. Once a night, and by `sum_usage_days`, it is further.
LOOK_BACK = timedelta(hours=26)

# The writer's lock is shared, the summing one's is not: what was not committed when the sums were read finds them
# afterwards, and marks them.
CREATE_TRIGGER = """
CREATE OR REPLACE FUNCTION usage_day_is_late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed usage_rollup := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(changed.organization_id::text || changed.meter, 0));
    UPDATE usage_day SET late_at = now()
    WHERE organization_id = changed.organization_id AND meter = changed.meter AND late_at IS NULL
      AND starts_at <= changed.hour AND ends_at > changed.hour;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER usage_rollup_late_insert AFTER INSERT ON usage_rollup
    FOR EACH ROW WHEN (NEW.hour < now() - interval '65 minutes') EXECUTE FUNCTION usage_day_is_late();
CREATE OR REPLACE TRIGGER usage_rollup_late_update
    AFTER UPDATE OF units, calls, response_ms, latency, hour, period_start, api_key_id, endpoint, status ON usage_rollup
    FOR EACH ROW WHEN (NEW.hour < now() - interval '65 minutes') EXECUTE FUNCTION usage_day_is_late();
CREATE OR REPLACE TRIGGER usage_rollup_late_delete AFTER DELETE ON usage_rollup
    FOR EACH ROW WHEN (OLD.hour < now() - interval '65 minutes') EXECUTE FUNCTION usage_day_is_late();
"""
DROP_TRIGGER = "DROP FUNCTION usage_day_is_late() CASCADE;"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s::text || %s, 0))"
SUM = f"""
WITH hours AS MATERIALIZED (
    SELECT * FROM usage_rollup
    WHERE organization_id = %(organization)s AND meter = %(meter)s AND hour >= %(start)s AND hour < %(end)s
), summed AS (
    INSERT INTO usage_day_sum
        (summed_day_id, period_start, api_key_id, endpoint, status, units, calls, response_ms)
    SELECT %(day)s, period_start, api_key_id, endpoint, status, sum(units), sum(calls), sum(response_ms)
    FROM hours GROUP BY period_start, api_key_id, endpoint, status
), buckets AS MATERIALIZED (
    SELECT hour, period_start, endpoint, entry >> {SHIFT} AS bucket, sum(entry & {MASK})::int8 AS calls
    FROM (SELECT hour, period_start, endpoint, unnest(latency) AS entry FROM hours WHERE status <> 0) AS entries
    GROUP BY 1, 2, 3, 4
), times AS (
    SELECT hour, period_start, endpoint, array_agg((bucket << {SHIFT}) + calls ORDER BY bucket) AS latency
    FROM (
        SELECT hour, period_start, endpoint, bucket, sum(calls)::int8 AS calls FROM buckets
        GROUP BY period_start, bucket, GROUPING SETS ((endpoint), (hour), ())
    ) AS added
    GROUP BY hour, period_start, endpoint
), totals AS (
    INSERT INTO usage_day_total (summed_day_id, hour, period_start, {", ".join(MEASURED)}, latency)
    SELECT %(day)s, measured.hour, measured.period_start, {", ".join(MEASURED)}, coalesce(latency, '{{}}')
    FROM (
        SELECT hour, period_start, {MEASURES} FROM hours GROUP BY period_start, GROUPING SETS ((hour), ())
    ) AS measured
    LEFT JOIN times ON endpoint IS NULL AND times.period_start = measured.period_start
        AND times.hour IS NOT DISTINCT FROM measured.hour
)
INSERT INTO usage_day_latency (summed_day_id, period_start, endpoint, latency)
SELECT %(day)s, period_start, endpoint, latency FROM times WHERE endpoint IS NOT NULL
"""  # noqa: S608  # Its parts from outside the string are constants of this package.
# By the index on hours alone: whose rollups are recent.
RECENT = "SELECT DISTINCT organization_id, meter FROM usage_rollup WHERE hour >= %s ORDER BY 1, 2"
# The trigger goes by PostgreSQL's clock: what it takes for the present is not summed up, whatever ours says.
PRESENT = "SELECT least(%s, now())"


class Day(NamedTuple):
    organization_id: UUID
    meter: str
    start: datetime
    zone: ZoneInfo


def sum_days(*, now: datetime, since: datetime | None = None) -> int:
    """Sum up the days from `since` on that are not, and all that are out of date; return how many.

    Each in a transaction of its own, so that it can be stopped and run again at any time, and several at once.
    """
    with connection.cursor() as cursor:
        cursor.execute(PRESENT, [now])
        # The end of the newest hour that began so long ago.
        settled = hour_start(cursor.fetchone()[0] - SETTLED_AFTER) + timedelta(hours=1)
    wanted = dict.fromkeys([*recent_days(since or now - LOOK_BACK, settled), *outdated_days()])
    return sum(sum_day(day, settled=settled) for day in wanted)


def recent_days(since: datetime, until: datetime) -> Iterator[Day]:
    """Yield the days with hours between the two that are not summed up, of whoever used something since."""
    zones: dict[UUID, str] = dict(Organization.objects.values_list("pk", "time_zone"))
    summed = set(
        SummedDay.objects.filter(ends_at__gt=since, late_at=None).values_list(
            "organization", "meter", "starts_at", "ends_at", "time_zone"
        )
    )
    with connection.cursor() as cursor:
        cursor.execute(RECENT, [hour_start(since)])
        meters = cursor.fetchall()
    for organization_id, meter in meters:
        zone = find_zone(zones[organization_id])
        if zone is None:
            continue
        for start in starts_between(since, until, Interval.DAY, zone):
            end = min(following(start, Interval.DAY, zone), until)
            if start < end and (organization_id, meter, start, end, zone.key) not in summed:
                yield Day(organization_id, meter, start, zone)


def outdated_days() -> Iterator[Day]:
    """Yield the days that late events have changed, those of a time zone that is not the organization's now, and those
    that have no totals yet.
    """
    moved = ~Q(time_zone=F("organization__time_zone"))
    outdated = Q(late_at__isnull=False) | moved | Q(has_totals=False)
    rows = SummedDay.objects.filter(outdated).select_related("organization")
    for row in rows.order_by("organization", "meter", "starts_at"):
        zone = find_zone(row.organization.time_zone)
        if zone is None:
            continue
        # Cut by another time zone it lies in two of this one's.
        for start in starts_between(row.starts_at, row.ends_at, Interval.DAY, zone):
            yield Day(row.organization_id, row.meter, start, zone)


def find_zone(name: str) -> ZoneInfo | None:
    """Return a time zone, None for one that this machine does not know: its organization keeps no other waiting."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        logger.error("There is no time zone %s here: its days are not summed up", name)
        return None


def sum_day(day: Day, *, settled: datetime) -> bool:
    """Sum up a day as far as its hours are settled; return whether anything was used in them."""
    next_day = following(day.start, Interval.DAY, day.zone)
    end = min(next_day, settled)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK, [day.organization_id, day.meter])
        known = SummedDay.objects.filter(organization=day.organization_id, meter=day.meter)
        known.filter(starts_at__lt=next_day, ends_at__gt=day.start).delete()
        hours = UsageRollup.objects.filter(organization=day.organization_id, meter=day.meter)
        if not hours.filter(hour__gte=day.start, hour__lt=end).exists():
            return False
        row = known.create(
            organization_id=day.organization_id,
            meter=day.meter,
            time_zone=day.zone.key,
            starts_at=day.start,
            ends_at=end,
            has_totals=True,
        )
        values: dict[str, Any] = {"day": row.pk, "organization": day.organization_id, "meter": day.meter}
        cursor.execute(SUM, values | {"start": day.start, "end": end})
    return True
