"""The periods that an organization's usage was charged to."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from accounts.models import Organization
from billing.models import Entitlement
from usage.cells import Scope, Statuses, fetch
from usage.local_time import HOUR, Interval, hour_start, round_down, round_up

# Three years of months.
MOST_PERIODS = 36
SHORTEST_MONTH, LONGEST_MONTH = timedelta(days=28), timedelta(days=31)
# Each step finds the next smaller one by the index, so that it costs the same however many rows a period has. `after`
# is where the next one that was used begins: back from there the last hour is found as soon, by the index on hours. One
# that was cut short may have gone on after that, once a missing payment had come: its last hour is looked for then.
PAST = """
WITH RECURSIVE starts (period_start) AS (
    (SELECT period_start FROM usage_rollup
     WHERE organization_id = %(organization)s AND meter = %(meter)s AND period_start < %(first)s
     ORDER BY period_start DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT before.period_start FROM usage_rollup AS before
            WHERE organization_id = %(organization)s AND meter = %(meter)s
              AND before.period_start < starts.period_start
            ORDER BY before.period_start DESC LIMIT 1)
    FROM starts WHERE starts.period_start IS NOT NULL
), past AS (
    SELECT period_start AS start, lag(period_start, 1, %(first)s) OVER (ORDER BY period_start DESC) AS after
    FROM (SELECT period_start FROM starts WHERE period_start IS NOT NULL LIMIT %(most)s) AS newest
)
SELECT past.start, past.after, proof.period_end,
       CASE WHEN past.after - past.start < %(shortest)s THEN
           (SELECT hour FROM usage_rollup
            WHERE organization_id = %(organization)s AND meter = %(meter)s
              AND hour >= past.after AND hour < past.start + %(longest)s AND period_start = past.start
            ORDER BY hour DESC LIMIT 1)
       WHEN proof.period_end IS NULL AND past.after - past.start > %(longest)s THEN
           (SELECT hour FROM usage_rollup
            WHERE organization_id = %(organization)s AND meter = %(meter)s
              AND hour < past.after AND period_start = past.start
            ORDER BY hour DESC LIMIT 1)
       END
FROM past LEFT JOIN usage_proof AS proof
    ON proof.organization_id = %(organization)s AND proof.meter = %(meter)s AND proof.period_start = past.start
ORDER BY past.start DESC
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

    @property
    def first_hour(self) -> datetime:
        """When the hour began that has its first units: of the day before, where midnight cuts that hour in two."""
        return hour_start(self.first)

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
            start=round_down(self.first_hour, Interval.DAY, zone),
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
    """Return the current period, and before it those in which the meter was used, the newest first."""
    current = current_period(entitlement)
    values = {
        "organization": entitlement.organization_id,
        "meter": meter,
        "first": current.first,
        "most": MOST_PERIODS - 1,
        "shortest": SHORTEST_MONTH,
        "longest": LONGEST_MONTH,
    }
    past = [
        QuotaPeriod(row[0], past_end(*row, first=current.first), (row[0],)) for row in fetch(PAST, values)
    ]
    return [current, *past]


def past_end(
    start: datetime, after: datetime, proven: datetime | None, last_hour: datetime | None, *, first: datetime
) -> datetime:
    """Return where a past period ended: with the usage only its start is kept.

    That is where its proof has it. For want of one it is where the next one that was used begins; where that is further
    off than a month, a month after the start or, if that is later, where it was used last. So too where it went on
    after the next one had begun, as where a payment was missing for a while: up to the current one's `first` moment.
    """
    if last_hour and last_hour >= after:
        return min(max(start + relativedelta(months=1), last_hour + HOUR), first)
    if proven is None and after - start <= LONGEST_MONTH:
        return after
    return min(proven or max(start + relativedelta(months=1), (last_hour or start) + HOUR), after)
