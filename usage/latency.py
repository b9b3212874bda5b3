"""Response times as histograms that can be added up: any percentile within 2 % of the true one.

Buckets grow by a constant factor (as in DDSketch, Masson et al., VLDB 2019): with GAMMA = (1 + a) / (1 - a) each
time is within a, 2 %, of its bucket's `middle`. A histogram is a list of whole numbers, one for each bucket that
has calls: bucket << SHIFT | calls. Adding two is adding the calls of each bucket.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, log

ACCURACY = 0.02
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
SHIFT = 48
MASK = (1 << SHIFT) - 1

# Bucket 0 is for 0 ms; bucket n for times from GAMMA ** (n - 1) up to GAMMA ** n.
SQL_BUCKET = (
    f"CASE WHEN response_ms < 1 THEN 0 ELSE 1 + floor(ln(response_ms::float8) / {log(GAMMA)!r})::int8 END"
)


def bucket(response_ms: int) -> int:
    return 1 + int(log(response_ms) / log(GAMMA)) if response_ms >= 1 else 0


def middle(number: int) -> float:
    """Return the time, in milliseconds, that stands for a bucket: none in it is further off than ACCURACY."""
    return 2 * GAMMA**number / (GAMMA + 1) if number else 0.0


def encode(counts: Mapping[int, int]) -> list[int]:
    """Return the histogram of calls by bucket."""
    return [number << SHIFT | calls for number, calls in sorted(counts.items()) if calls]


def decode(histogram: Iterable[int]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for entry in histogram:
        counts[entry >> SHIFT] += entry & MASK
    return counts


def percentile(counts: Mapping[int, int], percent: float) -> float | None:
    """Return the time, in milliseconds, that `percent` of the calls took at most; None of no calls.

    The nearest rank: of 200 calls the 95th percentile is the 190th, by time.
    """
    rank = ceil(sum(counts.values()) * percent / 100)
    for number in sorted(counts):
        rank -= counts[number]
        if rank <= 0:
            return middle(number)
    return None
