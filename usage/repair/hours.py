"""Hourly sums made anew from the ledger."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Sum

from usage.latency import SHIFT, SQL_BUCKET
from usage.ledger import ROLLUP
from usage.models import UsageRollup
from usage.models.rollups import UsageRollupQuerySet

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

    What was still to be reported of them stays so, and no more: what they gain may have been reported before they lost
    it, together with its report's row. See `usage.repair.outbox.put_back`. Safe to repeat, and beside drains.
    """
    changed = 0
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK)
        for hour in hours:
            rollups = UsageRollup.objects.filter(organization_id=organization_id, meter=meter, hour=hour)
            before, waiting = rollups.units(), unreported(rollups)
            rollups.delete()
            cursor.execute(REBUILD, {"organization": organization_id, "meter": meter, "hour": hour})
            mark_reported(rollups.all(), waiting)
            changed += rollups.all().units() - before
    return changed


def unreported(rollups: UsageRollupQuerySet) -> dict[datetime, int]:
    """Return the units that no report has taken up, by the start of their period."""
    rows = rollups.order_by().values_list("period_start").annotate(n=Sum(F("units") - F("reported_units")))
    return dict(rows)


def mark_reported(rollups: UsageRollupQuerySet, waiting: dict[datetime, int]) -> None:
    """Mark sums that were made anew as reported, but for as many units of each period as were `waiting` before."""
    left = dict(waiting)
    for rollup in rollups.order_by("pk"):
        rest = min(rollup.units, left.get(rollup.period_start, 0))
        left[rollup.period_start] = left.get(rollup.period_start, 0) - rest
        rollup.reported_units = rollup.units - rest
        rollup.save(update_fields=["reported_units"])
