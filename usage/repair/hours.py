"""Hourly sums made anew from the ledger."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Sum

from usage.latency import SHIFT, SQL_BUCKET
from usage.ledger import ROLLUP
from usage.models import MeterReport, UsageRollup

# No drain is half-way between ledger and sums while this is held, and readers are not held up.
LOCK = "LOCK TABLE usage_rollup IN SHARE ROW EXCLUSIVE MODE"
REBUILD = f"""
WITH timed AS (
    SELECT organization_id, meter, date_trunc('hour', occurred_at, 'UTC') AS hour, period_start, api_key_id,
           endpoint, status, {SQL_BUCKET} AS bucket,
           sum(units) AS units, count(*) AS calls, sum(response_ms) AS response_ms
    FROM usage_event
    WHERE organization_id = %(organization)s AND meter = %(meter)s
      AND occurred_at >= %(hour)s AND occurred_at < %(hour)s + interval '1 hour'
    GROUP BY {ROLLUP}, bucket
)
INSERT INTO usage_rollup ({ROLLUP}, units, calls, response_ms, latency, reported_units)
SELECT {ROLLUP}, sum(units), sum(calls), sum(response_ms),
       array_agg((bucket << {SHIFT}) + calls ORDER BY bucket), 0
FROM timed
GROUP BY {ROLLUP}
"""  # noqa: S608  # Its parts from outside the string are constants of this package.


def rebuild_hours(organization_id: UUID, meter: str, hours: Iterable[datetime]) -> int:
    """Make the sums of these hours anew from the ledger; return by how many units they changed.

    What reports hold of them stays marked as reported. Safe to repeat, and beside drains.
    """
    changed = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        for hour in hours:
            rollups = UsageRollup.objects.filter(organization_id=organization_id, meter=meter, hour=hour)
            before = rollups.units()
            rollups.delete()
            cursor.execute(REBUILD, {"organization": organization_id, "meter": meter, "hour": hour})
            mark_reported(organization_id, meter, hour)
            changed += rollups.all().units() - before
    return changed


def mark_reported(organization_id: UUID, meter: str, hour: datetime) -> None:
    """Mark as reported in an hour's sums what its reports hold, as far as there are units."""
    reports = MeterReport.objects.filter(organization_id=organization_id, meter__slug=meter, hour=hour)
    held = dict(reports.order_by().values_list("period_start").annotate(n=Sum("units")))
    rollups = UsageRollup.objects.filter(organization_id=organization_id, meter=meter, hour=hour)
    for rollup in rollups.order_by("pk"):
        rollup.reported_units = min(rollup.units, held.get(rollup.period_start, 0))
        held[rollup.period_start] = held.get(rollup.period_start, 0) - rollup.reported_units
        rollup.save(update_fields=["reported_units"])
