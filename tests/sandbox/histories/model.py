"""What things cost and when usage counts, worked out apart from the sandbox, with exact fractions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Offer:
    """A price of the catalogue. Tiers are (up to, unit amount), graduated, the last without end."""

    name: str
    interval: str
    tiers: tuple[tuple[int | None, str], ...]
    metered: bool = False

    def cost(self, quantity: int) -> Fraction:
        """Return what a quantity costs for a whole period, in minor units, before any rounding."""
        total, below = Fraction(0), 0
        for up_to, unit in self.tiers:
            inside = quantity - below if up_to is None else min(quantity, up_to) - below
            total += max(inside, 0) * Fraction(unit)
            below = up_to or below
        return total

    def params(self, *, meter: str) -> dict[str, Any]:
        """Return the parameters with which the API makes this price."""
        usage = {"usage_type": "metered", "meter": meter} if self.metered else {}
        made: dict[str, Any] = {
            "currency": "usd",
            "product_data": {"name": self.name},
            "recurring": {"interval": self.interval, **usage},
        }
        if len(self.tiers) == 1:
            return {**made, "unit_amount_decimal": self.tiers[0][1]}
        tiers = [{"up_to": up_to or "inf", "unit_amount_decimal": unit} for up_to, unit in self.tiers]
        return {**made, "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}


MONTHLY = (
    Offer("Basic", "month", ((None, "1000"),)),
    Offer("Pro", "month", ((None, "2500"),)),
    Offer("Team", "month", ((None, "9900"),)),
    Offer("Seats", "month", ((5, "700"), (None, "500"))),
    Offer("Fraction", "month", ((None, "333.3"),)),
)
YEARLY = (Offer("Year", "year", ((None, "50000"),)), Offer("Long year", "year", ((None, "120000"),)))
WEEKLY = (Offer("Week", "week", ((None, "700"),)), Offer("Long week", "week", ((None, "1500"),)))
METERED = (
    Offer("Requests", "month", ((None, "10"),), metered=True),
    Offer("Requests, some free", "month", ((100, "0"), (None, "2.5")), metered=True),
)
EXTRA = (Offer("Support", "month", ((None, "600"),)), Offer("Backups", "month", ((None, "1250"),)))
CATALOGUE = (*MONTHLY, *YEARLY, *WEEKLY, *METERED, *EXTRA)


def half_up(exact: Fraction) -> int:
    """Return the nearest whole number, the upper one of two equally near."""
    return (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)


@dataclass
class Usage:
    """The usage that was reported and taken in, apart from what was taken back."""

    reported: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, identifier: str, *, at: int, value: int, now: int) -> None:
        self.reported[identifier] = (at, value, now)

    def take_back(self, identifier: str) -> None:
        del self.reported[identifier]

    def between(self, start: int, end: int, *, known_at: int | None = None) -> int:
        """Return what was used from `start` up to and without `end`, as known at a moment or by now."""
        return sum(
            value
            for at, value, reported in self.reported.values()
            if start <= at < end and (known_at is None or reported < known_at)
        )


Span = tuple[int, int, int]


def coverage(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield (start, end, height) of the sum of (start, end, weight) spans, in order, without empty ones."""
    steps: dict[int, int] = {}
    for start, end, weight in spans:
        if start < end:
            steps[start] = steps.get(start, 0) + weight
            steps[end] = steps.get(end, 0) - weight
    height, previous = 0, None
    for at in sorted(steps):
        if previous is not None and previous < at:
            yield previous, at, height
        height += steps[at]
        previous = at


def heights(spans: Iterable[Span], *, start: int, end: int) -> list[Span]:
    """Return (from, to, height) of the sum of spans for all of the time between two moments."""
    found, reached = [], start
    for begin, until, height in coverage(spans):
        if until <= start or begin >= end:
            continue
        if begin > reached:
            found.append((reached, begin, 0))
        reached = min(until, end)
        found.append((max(begin, start), reached, height))
    return [*found, (reached, end, 0)] if reached < end else found
