"""Hours, days and months as an organization's time zone has them.

Rollups are of UTC hours, and an hour belongs to the local day in which it begins. Where the zone is off by half an
hour or a quarter, a local midnight cuts an hour in two: that hour counts in the day before.
"""

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

HOUR = timedelta(hours=1)


class Interval(StrEnum):
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local day, in UTC. Where clocks skip midnight it is when they do."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def first_hour(day: date, zone: ZoneInfo) -> datetime:
    """Return when the first hour begins that counts in a local day, in UTC: at midnight or less than an hour later."""
    return round_up(day_start(day, zone), Interval.HOUR, zone)


def local_day(moment: datetime, zone: ZoneInfo) -> date:
    return moment.astimezone(zone).date()


def hour_start(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def round_down(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """Return when the hour, local day or local month around `moment` begins, in UTC."""
    if interval == Interval.HOUR:
        return hour_start(moment)
    day = local_day(moment, zone)
    return day_start(day.replace(day=1) if interval == Interval.MONTH else day, zone)


def following(start: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    """Return when the interval after the one that begins at `start` begins: 23 to 25 hours later for days."""
    if interval == Interval.HOUR:
        return start + HOUR
    day = local_day(start, zone)
    # Counted in dates: a month begins on its first wherever the last one ended.
    return day_start(day + (timedelta(days=1) if interval == Interval.DAY else relativedelta(months=1)), zone)


def round_up(moment: datetime, interval: Interval, zone: ZoneInfo) -> datetime:
    start = round_down(moment, interval, zone)
    return start if start == moment else following(start, interval, zone)


def starts_between(start: datetime, end: datetime, interval: Interval, zone: ZoneInfo) -> list[datetime]:
    """Return the beginnings of all intervals that touch the span from `start` up to `end`, in UTC and in order."""
    starts = [round_down(start, interval, zone)]
    while (after := following(starts[-1], interval, zone)) < end:
        starts.append(after)
    return starts
