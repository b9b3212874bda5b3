"""The periods that an organization's usage was charged to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta
from django.db import connection

from accounts.models import Organization
from billing.models import Entitlement
from usage.cells import Scope, Statuses
from usage.local_time import Interval, round_down, round_up

# Three years of months.
MOST_PERIODS = 36
LONGEST_MONTH = timedelta(days=31)
# Each step finds the next smaller one by the index, so that it costs the same however many rows a period has.
STARTS = """
WITH RECURSIVE starts (period_start) AS (
    (SELECT period_start FROM usage_rollup WHERE organization_id = %(organization)s AND meter = %(meter)s
     ORDER BY period_start DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT before.period_start FROM usage_rollup AS before
            WHERE organization_id = %(organization)s AND meter = %(meter)s
              AND before.period_start < starts.period_start
            ORDER BY before.period_start DESC LIMIT 1)
    FROM starts WHERE starts.period_start IS NOT NULL
)
SELECT period_start FROM starts WHERE period_start IS NOT NULL LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class QuotaPeriod:
    """From `start` up to `end`. `charged` are the period starts of the rollups that count in it.

    There are several where a change cut the month short and what was used before still counts.
    """

    start: datetime
    end: datetime
    charged: tuple[datetime, ...]
    is_current: bool = False

    @property
    def first(self) -> datetime:
        return min(self.charged)

    def scope(
        self,
        organization: Organization,
        meter: str,
        *beside: str,
        endpoint: str | None = None,
        statuses: Statuses | None = None,
    ) -> Scope:
        """Return all that was charged to it, by days of the organization's time zone.

        `beside` are other meters, read in the same statement.
        """
        zone = ZoneInfo(organization.time_zone)
        return Scope(
            organization=organization,
            meter=meter,
            start=round_down(self.first, Interval.DAY, zone),
            end=round_up(self.end, Interval.DAY, zone),
            time_zone=zone.key,
            period_starts=self.charged,
            endpoint=endpoint,
            statuses=statuses,
            beside=beside,
        )


def current_period(entitlement: Entitlement) -> QuotaPeriod:
    starts = tuple(entitlement.counted_starts)
    return QuotaPeriod(entitlement.period_start, entitlement.period_end, starts, is_current=True)


def quota_periods(entitlement: Entitlement, meter: str) -> list[QuotaPeriod]:
    """Return the current period, and before it those in which the meter was used, the newest first.

    Of a past one only its start is kept: it ended where the next began, or after a month where that began later.
    """
    current = current_period(entitlement)
    with connection.cursor() as cursor:
        cursor.execute(
            STARTS,
            {
                "organization": entitlement.organization_id,
                "meter": meter,
                "most": MOST_PERIODS + len(current.charged),
            },
        )
        starts = [start for (start,) in cursor.fetchall() if start < current.first]
    periods, after = [current], current.first
    for start in starts[: MOST_PERIODS - 1]:
        end = after if after - start <= LONGEST_MONTH else start + relativedelta(months=1)
        periods.append(QuotaPeriod(start, end, (start,)))
        after = start
    return periods
