"""Medians, ratios and the order in which things are measured."""

import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    """The quartiles of one kind of sample, in the unit of the samples, and how many there were."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Raises ValueError where there are no samples."""
        if not samples:
            raise ValueError("There is nothing to take the median of.")
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], 1)
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(low, median, high, len(samples))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Figure:
    """Something promised: a ratio within one run, and the most it may be."""

    name: str
    ratio: float
    at_most: float

    @property
    def is_met(self) -> bool:
        return self.ratio <= self.at_most

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "MISSED"
        return f"{verdict:6}  {self.name}: {self.ratio:.2f} (at most {self.at_most:g})"

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "met": self.is_met}


def ratio(part: float, whole: float) -> float:
    """Return part / whole; raises ValueError where the whole is nothing, since no ratio says anything then."""
    if whole <= 0:
        raise ValueError(f"No ratio to {whole:g}: the measurement drowned in noise. Run it again, longer.")
    return part / whole


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample that `share` of all samples are at or below (nearest rank), 0 < share <= 1."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * share // 1).__int__() - 1)]


def shuffled_rounds(names: Iterable[str], *, rounds: int, seed: int = 1) -> Iterator[str]:
    """Yield each name once a round, in a new order each round.

    A fixed order would let one kind always run after the same other one, on the caches and clock speed that it
    left. The seed makes two runs alike.
    """
    order = list(names)
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret.
    for _ in range(rounds):
        chance.shuffle(order)
        yield from order
