"""Response times as histograms that can be added up: any percentile within 2 % of the true one.

Buckets grow by a constant factor (as in DDSketch, Masson et al., VLDB 2019): with GAMMA = (1 + a) / (1 - a) each
time is within a, 2 %, of its bucket's `middle`. A histogram is a list of whole numbers, bucket << SHIFT | calls. A
bucket may come several times, its calls are then the sum: two histograms are added by putting one behind the other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, log

ACCURACY = 0.02
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
LOG_GAMMA = log(GAMMA)
SHIFT = 48
MASK = (1 << SHIFT) - 1

# Bucket 0 is for 0 ms; bucket n for times from GAMMA ** (n - 1) up to GAMMA ** n.
SQL_BUCKET = (
    f"CASE WHEN response_ms < 1 THEN 0 ELSE 1 + floor(ln(response_ms::float8) / {LOG_GAMMA!r})::int8 END"
)
# A rollup keeps no more entries than this before they are put together, bucket by bucket: its row then stays short
# enough for PostgreSQL to leave it uncompressed, and one more batch of calls costs next to nothing.
LONGEST = 200
_bits = f"(bucket << {SHIFT}) + calls"
SQL_ADDED = f"""CASE WHEN cardinality(usage_rollup.latency) + cardinality(excluded.latency) <= {LONGEST}
    THEN usage_rollup.latency || excluded.latency
    ELSE (
        SELECT array_agg({_bits} ORDER BY bucket) FROM (
            SELECT entry >> {SHIFT} AS bucket, sum(entry & {MASK})::int8 AS calls
            FROM unnest(usage_rollup.latency || excluded.latency) AS entry GROUP BY 1
        ) AS added
    )
END"""  # noqa: S608  # Its parts from outside the string are constants of this module.


def bucket(response_ms: int) -> int:
    return 1 + int(log(response_ms) / LOG_GAMMA) if response_ms >= 1 else 0


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
