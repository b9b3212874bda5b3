"""Periods: half-open spans [start, end) in which a quota is counted. All times are aware UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime

from dateutil.relativedelta import relativedelta


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"A period must end after it starts: {self.start} to {self.end}.")

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def calendar_month(moment: datetime) -> Period:
    """Return the UTC calendar month around `moment`."""
    start = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Period(start, start + relativedelta(months=1))


def anchored_month(anchor: datetime, moment: datetime) -> Period:
    """Return the month around `moment`, counted from `anchor`.

    Stripe's rule for billing cycle anchors: a month without the anchor's day ends on its last day, and
    the day comes back afterwards (31 January, 28 February, 31 March). So each boundary is counted from
    the anchor itself, never from the boundary before it. Raises ValueError before the anchor.
    """
    if moment < anchor:
        raise ValueError(f"{moment} lies before the billing cycle anchor {anchor}.")
    months = (moment.year - anchor.year) * 12 + moment.month - anchor.month
    if anchor + relativedelta(months=months) > moment:
        months -= 1
    return Period(anchor + relativedelta(months=months), anchor + relativedelta(months=months + 1))
