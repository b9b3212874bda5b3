"""Which quota period an event belongs to: the one that its own time lies in, as long as that is open."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from billing.models import Entitlement
from usage.events import EPOCH, MICROSECOND
from usage.ingest.items import Names, Refused, moment_of

# As far ahead as Stripe lets a meter event lie.
AHEAD = timedelta(minutes=5) // MICROSECOND
# Stripe leaves a renewal's invoice open for about an hour. What is stored in half of it can still be reported to be
# on that invoice.
GRACE = timedelta(minutes=30)


class Span(NamedTuple):
    """A period, from `begins` until before `ends`, in microseconds since 1970.

    `first` is when the first of the periods began that count together with it: what is the largest, or new, is so
    among all of them.
    """

    begins: int
    ends: int
    start: datetime
    first: datetime


class Spans:
    """The open periods of an organization at `now`, in microseconds."""

    def __init__(self, entitlement: Entitlement, *, now: int) -> None:
        self.now = now
        self.ends = micros(entitlement.period_end)
        # The current one first: most events are its.
        self.spans = spans(entitlement.counted_starts, entitlement.period_end)[::-1]
        previous = entitlement.previous_end
        if previous and moment_of(now) < self.spans[0].first + GRACE:
            self.spans += spans([*map(datetime.fromisoformat, entitlement.previous_starts)], previous)

    def find(self, time: int | None, names: Names) -> tuple[int, Span]:
        """Return an event's time and its period; without a time it is now. Raises Refused."""
        at = self.now if time is None else time
        if at > self.now + AHEAD:
            raise Refused("in_future", f"{names.time} is more than 5 minutes ahead of {told(self.now)}.")
        for span in self.spans:
            if span.begins <= at < span.ends:
                return at, span
        if at >= self.ends:
            raise Refused(
                "in_future", f"{names.time} lies in a period that has not begun. Send it again after that."
            )
        since = min(span.begins for span in self.spans)
        raise Refused(
            "too_old",
            f"{names.time} lies before {told(since)}, when the oldest period that is open began. Its invoice holds no "
            "more: ask the staff of this installation for a correction.",
        )


def spans(starts: Sequence[datetime], end: datetime) -> list[Span]:
    edges = pairwise([*starts, end])
    return [Span(micros(start), micros(stop), start, starts[0]) for start, stop in edges]


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def told(time: int) -> str:
    return moment_of(time).isoformat(timespec="seconds").replace("+00:00", "Z")
