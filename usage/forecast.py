"""How much a period will come to, and when its quota or spend cap will be used up.

The rate is that of the last seven whole days, or as many as lie in the period, in the organization's time zone; at
first, before one is whole, that of the period so far, taken for an hour at least. Of the period in which an
organization signed up only what came after counts. What is left is reckoned at that rate, on top of what is used:

    expected = used + rate * (period's end - now), rounded down
    the moment at which n units are used = now + (n - used) / rate, rounded up to a microsecond

It is what would be used if nothing were refused: a quota that ends calls does not end the forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from billing.models import Entitlement, Meter
from usage.cells import fetch, sums
from usage.local_time import HOUR, Interval, following, hour_start, round_down, round_up, starts_between
from usage.quota_periods import current_period

WHOLE_DAYS = 7
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Forecast:
    """`expected` is the units at the period's end, None where nothing has been used to tell by.

    `runs_out_at` is when the included units will be used up, `cap_reached_at` when the customer's own spend cap is.
    Each is None where that is not before the period ends, where it has happened already, or where there is none.
    """

    expected: int | None = None
    runs_out_at: datetime | None = None
    cap_reached_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """`used` in the period so far; of that `units` in the `span` by which the rate is told.

    `whole_days` is how many lie in the span, 0 where none is over yet and the rate is that of the period so far; None
    where there is no rate.
    """

    used: int
    units: int
    span: timedelta
    whole_days: int | None = 0

    def expected(self, left: timedelta) -> int:
        return self.used + self.units * (left // MICROSECOND) // (self.span // MICROSECOND)

    def reaches(self, units: int | None, *, now: datetime, end: datetime) -> datetime | None:
        """Return when `units` are used, None where it is not between now and the end."""
        if units is None or self.used >= units or not self.units:
            return None
        # Negated twice, which rounds up.
        wait = -(-(units - self.used) * (self.span // MICROSECOND) // self.units)
        return now + wait * MICROSECOND if wait < (end - now) // MICROSECOND else None


def forecast(entitlement: Entitlement, meter: Meter, *, now: datetime) -> Forecast:
    return project(pace(entitlement, meter, now=now), entitlement, meter.slug, now=now)


def pace(entitlement: Entitlement, meter: Meter, *, now: datetime) -> Pace:
    """Return how fast the meter's units are used in the current period."""
    return paces(entitlement, [meter], now=now)[meter.slug]


def paces(entitlement: Entitlement, meters: Sequence[Meter], *, now: datetime) -> dict[str, Pace]:
    """Return how fast the units of each meter are used in the current period, by slug, read in one statement."""
    if not meters:
        return {}
    period = current_period(entitlement)
    zone = ZoneInfo(entitlement.organization.time_zone)
    opened = entitlement.organization.created_at
    first = max(period.first, opened) if opened <= now else period.first
    start, end = rate_window(first, now, zone)
    whole_days = len(starts_between(start, end, Interval.DAY, zone)) if start < end else 0
    if not whole_days:
        start, end = hour_start(first), period.end
    statement = """
SELECT meter, sum(units)::int8, coalesce(sum(units) FILTER (WHERE at >= %(from)s AND at < %(to)s), 0)::int8
FROM sums GROUP BY meter"""
    scope = period.scope(entitlement.organization, *(meter.slug for meter in meters))
    # The sum of a day stands at its midnight, which tells nothing of the hours before and after a sign-up.
    rows = fetch(
        sums(scope, by_hour=not whole_days) + statement, {**scope.values(), "from": start, "to": end}
    )
    found = {slug: (used, recent) for slug, used, recent in rows}

    def pace_of(meter: Meter) -> Pace:
        used, recent = found.get(meter.slug, (0, 0))
        if meter.aggregation == Meter.Aggregation.MAX:
            return Pace(used, 0, HOUR, None)  # A largest value does not grow with time.
        if not whole_days:
            return Pace(used, recent, max(now - first, HOUR))
        return Pace(used, recent, end - start, whole_days)

    return {meter.slug: pace_of(meter) for meter in meters}


def rate_window(first: datetime, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return from when to when the last whole days are that lie after `first`: nothing where none is over yet."""
    start, end = round_up(first, Interval.DAY, zone), round_down(now, Interval.DAY, zone)
    if start >= end:
        return end, end
    starts = [start]
    while starts[-1] < end:
        starts.append(following(starts[-1], Interval.DAY, zone))
    return starts[max(len(starts) - 1 - WHOLE_DAYS, 0)], end


def project(pace: Pace, entitlement: Entitlement, meter: str, *, now: datetime) -> Forecast:
    quota, end = entitlement.quotas.get(meter) or {}, entitlement.period_end
    if not pace.used:
        return Forecast()
    return Forecast(
        expected=pace.expected(max(end - now, timedelta())),
        runs_out_at=pace.reaches(quota.get("included"), now=now, end=end),
        cap_reached_at=pace.reaches(quota.get("spend_cap"), now=now, end=end),
    )
