"""The sandbox's own time, which tests and the control page may move forward."""

import datetime
import time


class Clock:
    """Unix seconds that run with the machine's clock plus an offset, or stand still once frozen."""

    def __init__(self, *, offset: int = 0, frozen_at: int | None = None) -> None:
        self.offset = offset
        self.frozen_at = frozen_at

    def now(self) -> int:
        """Return unix seconds, UTC."""
        if self.frozen_at is not None:
            return self.frozen_at
        return int(time.time()) + self.offset

    def today(self) -> datetime.datetime:
        """Return the same instant as `now` as an aware UTC datetime."""
        return datetime.datetime.fromtimestamp(self.now(), tz=datetime.UTC)

    def freeze(self, at: int | datetime.datetime) -> None:
        """Stop the clock at an instant, given as unix seconds or an aware datetime."""
        self.frozen_at = seconds(at)

    def advance(self, by: int | datetime.timedelta) -> None:
        """Move the clock forward. Raises ValueError for a step back: Stripe's time never runs backwards."""
        step = int(by.total_seconds()) if isinstance(by, datetime.timedelta) else by
        if step < 0:
            raise ValueError("the clock only moves forward")
        if self.frozen_at is not None:
            self.frozen_at += step
        else:
            self.offset += step

    def as_dict(self) -> dict[str, int | None]:
        return {"offset": self.offset, "frozen_at": self.frozen_at}


def seconds(at: int | datetime.datetime) -> int:
    """Return unix seconds. Raises ValueError for a naive datetime, whose instant is anyone's guess."""
    if isinstance(at, datetime.datetime):
        if at.tzinfo is None:
            raise ValueError("a datetime without a time zone names no instant")
        return int(at.timestamp())
    return at


def add_interval(start: int, *, interval: str, count: int, anchor: int | None = None) -> int:
    """Return the unix second one billing interval after `start`.

    Months and years keep the anchor's day of the month, clamped to the month's length, so a
    subscription begun on the 31st comes back to the 31st after February.
    """
    if interval in ("day", "week"):
        return start + count * (86400 if interval == "day" else 604800)
    begin = datetime.datetime.fromtimestamp(start, tz=datetime.UTC)
    anchor_day = datetime.datetime.fromtimestamp(anchor if anchor is not None else start, tz=datetime.UTC).day
    months = begin.month - 1 + count * (12 if interval == "year" else 1)
    year, month = begin.year + months // 12, months % 12 + 1
    following = datetime.date(year + month // 12, month % 12 + 1, 1)
    last_day = (following - datetime.timedelta(days=1)).day
    return int(begin.replace(year=year, month=month, day=min(anchor_day, last_day)).timestamp())


def boundary_after(anchor: int, *, interval: str, count: int, after: int) -> int:
    """Return the first billing date later than `after`, in unix seconds.

    Billing dates lie a whole number of intervals from the anchor, before it too, and are reckoned from
    it each time: the 31st comes back as the 31st after a shorter month.
    """
    length = {"day": 86400, "week": 604800, "month": 2629800, "year": 31557600}[interval] * count
    steps = (after - anchor) // length - 1
    at = add_interval(anchor, interval=interval, count=steps * count)
    while at <= after:
        steps += 1
        at = add_interval(anchor, interval=interval, count=steps * count)
    return at


def period_around(anchor: int, *, interval: str, count: int, at: int) -> tuple[int, int]:
    """Return the billing period that holds a moment, its start inclusive, in unix seconds."""
    end = boundary_after(anchor, interval=interval, count=count, after=at)
    length = {"day": 86400, "week": 604800, "month": 2629800, "year": 31557600}[interval] * count
    steps = round((end - anchor) / length)
    return add_interval(anchor, interval=interval, count=(steps - 1) * count), end
