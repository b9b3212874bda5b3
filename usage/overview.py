"""What the customer's usage page shows, and staff's of one customer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from accounts.models import Organization
from billing.models import Entitlement, Meter
from usage.analytics import (
    Dimension,
    Group,
    Latency,
    Measures,
    Series,
    breakdown,
    latency_by_endpoint,
    series,
    total,
)
from usage.cells import Scope
from usage.charts import Chart, draw
from usage.local_time import Interval, day_start, first_hour, local_day
from usage.naming import group_names
from usage.quota_periods import QuotaPeriod, current_period, quota_periods
from usage.summaries import MeterUsage, meter_usage
from usage.unplanned import unplanned_meters

# Of a chart: more could not be told apart.
MOST_STACKED = 4
MONTHS = 12
DEFAULT_METER = "requests"


@dataclass(frozen=True, slots=True)
class Choice:
    """What of its usage somebody wants to see. `day` is the local day whose hours are shown, by hours."""

    meter: Meter
    period: QuotaPeriod
    interval: Interval
    by: Dimension | None
    day: date

    def query(self, **changed: str) -> str:
        """Return the page's query for this choice, with something changed; what is empty is left out."""
        chosen = {
            "meter": self.meter.slug,
            "period": "" if self.period.is_current else self.period.start.isoformat(),
            "interval": self.interval,
            "by": self.by or "",
            "day": self.day.isoformat() if self.interval == Interval.HOUR else "",
        }
        return urlencode({name: value for name, value in (chosen | changed).items() if value})


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table of what was used by something. `share` is of all units, in whole percent."""

    name: str
    measures: Measures
    share: int
    latency: Latency | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """`usage` is None of a past period, and of a meter that the plan does not know.

    `days_before` and `days_after` lead to the hours of other days.
    """

    choice: Choice
    meters: tuple[Meter, ...]
    periods: tuple[QuotaPeriod, ...]
    zone: ZoneInfo
    usage: MeterUsage | None
    totals: Measures
    latency: Latency
    series: Series
    chart: Chart
    names: tuple[str, ...]
    endpoints: tuple[Row, ...]
    keys: tuple[Row, ...]
    statuses: tuple[Row, ...]
    day_before: date | None
    day_after: date | None
    scope: Scope

    @property
    def is_empty(self) -> bool:
        return self.totals == Measures() and self.series.totals == Measures()


def choose(
    entitlement: Entitlement, asked: Mapping[str, str], *, now: datetime
) -> tuple[Choice, list[Meter]]:
    """Return what was asked for, and the meters there are; what there is not gives way to what there is."""
    meters = list(Meter.objects.all())
    known = {meter.slug: meter for meter in meters}
    preferred = [asked.get("meter", ""), first_meter(entitlement), *sorted(entitlement.quotas), *known]
    meter = next(known[slug] for slug in preferred if slug in known)
    current = current_period(entitlement)
    period = current
    if asked.get("period"):
        others = quota_periods(entitlement, meter.slug)
        period = next((each for each in others if each.start.isoformat() == asked["period"]), current)
    interval = asked.get("interval", "")
    by = asked.get("by", "")
    zone = ZoneInfo(entitlement.organization.time_zone)
    first, last = days_of(period, now, zone)
    try:
        day = min(max(date.fromisoformat(asked.get("day", "")), first), last)
    except ValueError:
        day = last
    return (
        Choice(
            meter=meter,
            period=period,
            interval=Interval(interval) if interval in set(Interval) else Interval.DAY,
            by=Dimension(by) if by in set(Dimension) else None,
            day=day,
        ),
        meters,
    )


def first_meter(entitlement: Entitlement) -> str:
    """Return the slug of the meter to show where none is asked for: one of the plan's, if it has any."""
    quotas = entitlement.quotas
    return DEFAULT_METER if DEFAULT_METER in quotas else min(quotas, default=DEFAULT_METER)


def days_of(period: QuotaPeriod, now: datetime, zone: ZoneInfo) -> tuple[date, date]:
    """Return the first and the last local day of a period that hours of it count in, up to today."""
    first = local_day(period.first_hour, zone)
    end = min(period.end - timedelta(microseconds=1), now)
    return first, max(local_day(end, zone), first)


def open_overview(entitlement: Entitlement, asked: Mapping[str, str], *, now: datetime) -> Overview:
    """Return the entitlement's organization's usage as `asked` for by a page's query."""
    organization = entitlement.organization
    choice, meters = choose(entitlement, asked, now=now)
    zone = ZoneInfo(organization.time_zone)
    whole = choice.period.scope(organization, choice.meter.slug)
    groups = breakdown(whole)
    named = [group.value for group in groups[Dimension.ENDPOINT] if group.value is not None]
    latency, by_endpoint = latency_by_endpoint(whole, named)
    scope = charted(choice, whole, zone)
    found = series(scope, choice.interval, by=choice.by, most=MOST_STACKED)
    first, last = days_of(choice.period, now, zone)
    shown = {*entitlement.quotas, choice.meter.slug}
    shown.update(meter.slug for meter in unplanned_meters(entitlement, choice.period))
    is_known = choice.period.is_current and choice.meter.slug in entitlement.quotas

    def rows(dimension: Dimension) -> tuple[Row, ...]:
        return tuple(table(organization, dimension, groups[dimension], by_endpoint))

    return Overview(
        choice=choice,
        meters=tuple(meter for meter in meters if meter.slug in shown),
        periods=tuple(quota_periods(entitlement, choice.meter.slug)),
        zone=zone,
        usage=meter_usage(entitlement, choice.meter, now=now) if is_known else None,
        totals=total(group.measures for group in groups[Dimension.STATUS]),
        latency=latency,
        series=found,
        chart=draw(found, choice.interval, zone),
        names=tuple(group_names(organization, choice.by, found.groups)) if choice.by else ("Units",),
        endpoints=rows(Dimension.ENDPOINT),
        keys=rows(Dimension.KEY),
        statuses=rows(Dimension.STATUS),
        day_before=choice.day - timedelta(days=1) if choice.day > first else None,
        day_after=choice.day + timedelta(days=1) if choice.day < last else None,
        scope=whole,
    )


def charted(choice: Choice, whole: Scope, zone: ZoneInfo) -> Scope:
    """Return what the chart is of: the period's days, one day's hours, or the year of months that ends with it."""
    if choice.interval == Interval.DAY:
        return whole
    if choice.interval == Interval.HOUR:
        return Scope(
            organization=whole.organization,
            meter=whole.meter,
            start=first_hour(choice.day, zone),
            end=first_hour(choice.day + timedelta(days=1), zone),
            time_zone=zone.key,
            period_starts=whole.period_starts,
        )
    month = local_day(choice.period.end - timedelta(microseconds=1), zone).replace(day=1)
    return Scope(
        organization=whole.organization,
        meter=whole.meter,
        start=day_start(month - relativedelta(months=MONTHS - 1), zone),
        end=day_start(month + relativedelta(months=1), zone),
        time_zone=zone.key,
    )


def table(
    organization: Organization,
    dimension: Dimension,
    groups: tuple[Group, ...],
    latencies: Mapping[str, Latency],
) -> list[Row]:
    everything = total(group.measures for group in groups).units
    names = group_names(organization, dimension, groups)
    return [
        Row(
            name=name,
            measures=group.measures,
            share=group.measures.units * 100 // everything if everything else 0,
            latency=latencies.get(group.value or "") if dimension == Dimension.ENDPOINT else None,
            value=group.value,
        )
        for name, group in zip(names, groups, strict=True)
    ]
