"""Bars for charts that the server draws: where each stands and how high, in an SVG's own units."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from usage.analytics import Group, Point, Series
from usage.local_time import Interval

PLACE, BAR, HEIGHT = 20, 14, 100
# A bar of few units beside one of many is still seen.
LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    """Of a bar: `number` is its group's, from 1; `y` and `height` go down from the chart's top.

    As a page writes them: a template would take its time to find how numbers are written here.
    """

    number: str
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    point: Point
    x: str
    segments: tuple[Segment, ...]
    shares: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """`top` is the units that the highest bar stands for."""

    bars: tuple[Bar, ...]
    top: int
    width: int


def draw(series: Series, interval: Interval, zone: ZoneInfo) -> Chart:
    """Return the chart of a series, its groups on top of each other with the largest at the bottom."""
    top = max((point.measures.units for point in series.points), default=0)
    names = labels(series.points, interval, zone)
    stacks = series.groups or (Group(None, series.totals, series.points),)
    bars = []
    for place, point in enumerate(series.points):
        shares = tuple(group.points[place].measures.units for group in stacks)
        bars.append(Bar(names[place], point, str(place * PLACE), stack(shares, top), shares))
    return Chart(tuple(bars), top, max(len(bars), 1) * PLACE)


def stack(shares: tuple[int, ...], top: int) -> tuple[Segment, ...]:
    segments, y = [], float(HEIGHT)
    for number, units in enumerate(shares, start=1):
        if units:
            height = max(units * HEIGHT / top, LEAST)
            y = max(y - height, 0.0)
            segments.append(Segment(str(number), f"{y:.2f}", f"{height:.2f}"))
    return tuple(segments)


def labels(points: tuple[Point, ...], interval: Interval, zone: ZoneInfo) -> list[str]:
    """Return what each point is called. On a day when clocks change, hours say by which they are."""
    starts = [point.start.astimezone(zone) for point in points]
    if interval == Interval.HOUR:
        changes = len({start.utcoffset() for start in starts}) > 1
        return [f"{start:%H:%M} {start:%Z}" if changes else f"{start:%H:%M}" for start in starts]
    return [month_name(start) if interval == Interval.MONTH else day_name(start) for start in starts]


def day_name(moment: datetime) -> str:
    return f"{moment:%a} {moment.day} {moment:%b}"


def month_name(moment: datetime) -> str:
    return f"{moment:%B %Y}"
