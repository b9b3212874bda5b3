"""Where the usage page's switches lead: each to the same page with one thing changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.urls import reverse

from usage.analytics import Dimension
from usage.api.queries import LONGEST
from usage.charts import Bar
from usage.local_time import Interval, local_day
from usage.overview import Overview, days_of

INTERVALS = {Interval.HOUR: "Hours", Interval.DAY: "Days", Interval.MONTH: "Months"}
GROUPINGS = {
    "": "Nothing",
    Dimension.ENDPOINT: "Endpoint",
    Dimension.KEY: "API key",
    Dimension.STATUS: "Status",
}


@dataclass(frozen=True, slots=True)
class Link:
    """To the page with `value` for one of its switches."""

    label: str
    value: str
    query: str
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Links:
    """Queries of the page. `figures` are the bars up to now, each with the query of its hours."""

    meters: list[Link]
    intervals: list[Link]
    groupings: list[Link]
    day_before: str
    day_after: str
    figures: list[tuple[Bar, str]]
    csv: str


def links_of(overview: Overview, *, now: datetime) -> Links:
    choice = overview.choice
    return Links(
        meters=[
            Link(meter.name, meter.slug, choice.query(meter=meter.slug), meter == choice.meter)
            for meter in overview.meters
        ],
        intervals=[
            Link(label, interval, choice.query(interval=interval, day=""), interval == choice.interval)
            for interval, label in INTERVALS.items()
        ],
        groupings=[
            Link(label, by, choice.query(by=by), by == (choice.by or "")) for by, label in GROUPINGS.items()
        ],
        day_before=choice.query(day=overview.day_before.isoformat()) if overview.day_before else "",
        day_after=choice.query(day=overview.day_after.isoformat()) if overview.day_after else "",
        figures=[(bar, hours_of(bar, overview)) for bar in overview.chart.bars if bar.point.start <= now],
        csv=csv_address(overview, now=now),
    )


def hours_of(bar: Bar, overview: Overview) -> str:
    """Return the query of a day's hours, empty where the bar is no day's."""
    if overview.choice.interval != Interval.DAY:
        return ""
    day = local_day(bar.point.start, overview.zone)
    return overview.choice.query(interval=Interval.HOUR, day=day.isoformat())


def csv_address(overview: Overview, *, now: datetime) -> str:
    """Return where the chosen period's usage so far is to be had as a file, of a long one as many days as one holds."""
    first, last = days_of(overview.choice.period, now, overview.zone)
    end = last + timedelta(days=1)
    query = {
        "meter": overview.scope.meter,
        "from": max(first, end - LONGEST[Interval.DAY]).isoformat(),
        "to": end.isoformat(),
    }
    return f"{reverse('api-usage-export')}?{urlencode(query)}"
