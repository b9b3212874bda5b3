"""What was used: by time, and by what. From the sums and never from the ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from usage.cells import SENT_IN, Scope, cells, fetch, hourly_cells, latencies
from usage.latency import percentile
from usage.local_time import Interval, starts_between

# Of keys, endpoints or statuses. What goes beyond is put together.
MOST_NAMED = 10


class Dimension(StrEnum):
    KEY = "key"
    ENDPOINT = "endpoint"
    STATUS = "status"


COLUMNS = {Dimension.KEY: "api_key_id", Dimension.ENDPOINT: "endpoint", Dimension.STATUS: "status"}


@dataclass(frozen=True, slots=True)
class Measures:
    """Sums. Of `calls`, `errors` were answered with 400 or more, and of `unknown` nothing is known of the answer.

    `sent_in` are events without a call.
    """

    units: int = 0
    calls: int = 0
    sent_in: int = 0
    errors: int = 0
    response_ms: int = 0
    unknown: int = 0

    @property
    def mean_ms(self) -> float | None:
        timed = self.calls - self.unknown
        return self.response_ms / timed if timed else None

    def __add__(self, other: "Measures") -> "Measures":
        return Measures(
            self.units + other.units,
            self.calls + other.calls,
            self.sent_in + other.sent_in,
            self.errors + other.errors,
            self.response_ms + other.response_ms,
            self.unknown + other.unknown,
        )


NOTHING = Measures()
MEASURES = f"""
    sum(units)::int8 AS units,
    coalesce(sum(calls) FILTER (WHERE NOT {SENT_IN}), 0)::int8 AS calls,
    coalesce(sum(calls) FILTER (WHERE {SENT_IN}), 0)::int8 AS sent_in,
    coalesce(sum(calls) FILTER (WHERE status >= 400), 0)::int8 AS errors,
    coalesce(sum(response_ms) FILTER (WHERE status <> 0), 0)::int8 AS response_ms,
    coalesce(sum(calls) FILTER (WHERE status = 0 AND NOT {SENT_IN}), 0)::int8 AS unknown"""
# Of groups that are put together, which has a sum for each.
SUMS = """sum(units)::int8, sum(calls)::int8, sum(sent_in)::int8, sum(errors)::int8, sum(response_ms)::int8,
    sum(unknown)::int8"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times in milliseconds that 50, 95 and 99 percent of the calls took at most, within 2 %; None of no calls."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, counts: Counter[int]) -> "Latency":
        return cls(*(percentile(counts, percent) for percent in (50, 95, 99)))


@dataclass(frozen=True, slots=True)
class Point:
    """An hour, local day or local month: from `start` up to `end`, in UTC."""

    start: datetime
    end: datetime
    measures: Measures


@dataclass(frozen=True, slots=True)
class Group:
    """What has a value in common: a key's id, an endpoint or a status as text. None puts all others together."""

    value: str | None
    measures: Measures
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Every interval of a scope in order, those of no use with zeros. `groups` are by units, the largest first."""

    points: tuple[Point, ...]
    totals: Measures
    groups: tuple[Group, ...] = field(default=())


def total(points: Iterable[Measures]) -> Measures:
    return sum(points, NOTHING)


def series(
    scope: Scope, interval: Interval, *, by: Dimension | None = None, most: int = MOST_NAMED
) -> Series:
    """Return the scope's usage by time, and by `by` the `most` groups that used most with the others together.

    The scope begins and ends where intervals do.
    """
    starts = starts_between(scope.start, scope.end, interval, ZoneInfo(scope.time_zone))
    spans = list(zip(starts, [*starts[1:], scope.end], strict=True))
    column = COLUMNS[by] if by else "NULL::text"
    begin = hourly_cells if interval == Interval.HOUR else cells
    statement = f"""{begin(scope)}, placed AS MATERIALIZED (
    SELECT width_bucket(at, %(starts)s::timestamptz[]) AS place, {column} AS value, {MEASURES}
    FROM cells GROUP BY 1, 2
), ranked AS (
    SELECT value, row_number() OVER (ORDER BY sum(units) DESC, sum(calls + sent_in) DESC, value) AS rank
    FROM placed GROUP BY value
)
SELECT place, CASE WHEN rank <= %(most)s THEN placed.value::text END, least(rank, %(most)s + 1), {SUMS}
FROM placed JOIN ranked ON ranked.value IS NOT DISTINCT FROM placed.value
GROUP BY 1, 2, 3"""  # noqa: S608  # Made of constants.
    found: defaultdict[tuple[int, str | None], dict[int, Measures]] = defaultdict(dict)
    for place, value, rank, *sums in fetch(statement, {**scope.values(), "starts": starts, "most": most}):
        found[rank, value][place - 1] = Measures(*sums)
    groups = []
    for (_, value), measures in sorted(found.items(), key=lambda each: each[0][0]):
        points = tuple(Point(*span, measures.get(place, NOTHING)) for place, span in enumerate(spans))
        groups.append(Group(value, total(measures.values()), points))
    return Series(
        points=groups[0].points if len(groups) == 1 else added_up(groups, spans),
        totals=total(group.measures for group in groups),
        groups=tuple(groups) if by else (),
    )


def added_up(groups: list[Group], spans: list[tuple[datetime, datetime]]) -> tuple[Point, ...]:
    """Return the points of all groups together."""
    return tuple(
        Point(*span, total(group.points[place].measures for group in groups))
        for place, span in enumerate(spans)
    )


def breakdown(scope: Scope, *, most: int = MOST_NAMED) -> dict[Dimension, tuple[Group, ...]]:
    """Return the scope's usage by key, by endpoint and by status: of each the `most` that used most, and the others."""
    statement = f"""{cells(scope)}, grouped AS (
    SELECT grouping(api_key_id, endpoint, status) AS kind, api_key_id, endpoint, status, {MEASURES}
    FROM cells GROUP BY GROUPING SETS ((api_key_id), (endpoint), (status))
), ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY kind ORDER BY units DESC, calls + sent_in DESC, api_key_id, endpoint, status) AS rank
    FROM grouped
)
SELECT kind, CASE WHEN rank <= %(most)s THEN coalesce(api_key_id::text, endpoint, status::text) END,
       least(rank, %(most)s + 1) AS place, {SUMS}
FROM ranked GROUP BY 1, 2, 3 ORDER BY 1, 3"""  # noqa: S608  # As above.
    # What GROUPING says: a bit is 1 where the column is not grouped by.
    kinds = {0b011: Dimension.KEY, 0b101: Dimension.ENDPOINT, 0b110: Dimension.STATUS}
    groups: dict[Dimension, list[Group]] = {dimension: [] for dimension in Dimension}
    for kind, value, _, *sums in fetch(statement, {**scope.values(), "most": most}):
        groups[kinds[kind]].append(Group(value, Measures(*sums)))
    return {dimension: tuple(found) for dimension, found in groups.items()}


def latency(scope: Scope) -> Latency:
    """Return the percentiles of all the scope's calls, of its meters together."""
    statement = f"{latencies(scope)} SELECT bucket, sum(calls)::int8 FROM buckets GROUP BY 1"  # noqa: S608
    return Latency.of(Counter(dict(fetch(statement, scope.values()))))


def latency_by_meter(scope: Scope) -> dict[str, Latency]:
    """Return the percentiles of the calls of each of the scope's meters."""
    statement = f"{latencies(scope)} SELECT meter, bucket, sum(calls)::int8 FROM buckets GROUP BY 1, 2"  # noqa: S608
    found: dict[str, Counter[int]] = {meter: Counter() for meter in (scope.meter, *scope.beside)}
    for meter, bucket, calls in fetch(statement, scope.values()):
        found[meter][bucket] += calls
    return {meter: Latency.of(counts) for meter, counts in found.items()}


def latency_by_endpoint(scope: Scope, endpoints: Iterable[str]) -> tuple[Latency, dict[str, Latency]]:
    """Return the percentiles of all the scope's calls, and of those to each of the endpoints."""
    statement = f"""{latencies(scope)}
SELECT CASE WHEN endpoint = ANY(%(endpoints)s) THEN endpoint END, bucket, sum(calls)::int8
FROM buckets GROUP BY 1, 2"""  # noqa: S608  # As above.
    everything: Counter[int] = Counter()
    found: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for endpoint, bucket, calls in fetch(statement, {**scope.values(), "endpoints": list(endpoints)}):
        everything[bucket] += calls
        if endpoint is not None:
            found[endpoint][bucket] += calls
    return Latency.of(everything), {endpoint: Latency.of(counts) for endpoint, counts in found.items()}
