"""What was used: by time, and by what. From the sums and never from the ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from usage.cells import MEASURED, MEASURES, SUMS, Scope, cells, fetch, hourly_cells, latencies, sums
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
    begin = sums_by(scope, interval, by)
    # Placed only once they are added up: there are far fewer sums than cells.
    placed = f"""{begin}, placed AS MATERIALIZED (
    SELECT width_bucket(at, %(starts)s::timestamptz[]) AS place, value, {SUMS} FROM grouped GROUP BY 1, 2
)"""  # noqa: S608  # Made of constants.
    if by:
        statement = f"""{placed}, ranked AS (
    SELECT value, row_number() OVER (ORDER BY sum(units) DESC, sum(calls + sent_in) DESC, value) AS rank
    FROM placed GROUP BY value
)
SELECT place, CASE WHEN rank <= %(most)s THEN value::text END, least(rank, %(most)s + 1), {SUMS}
FROM placed JOIN ranked USING (value) GROUP BY 1, 2, 3"""  # noqa: S608  # As above.
    else:
        statement = f"{placed} SELECT place, NULL, 1, {', '.join(MEASURED)} FROM placed"  # noqa: S608  # As above.
    found: defaultdict[tuple[int, str | None], dict[int, Measures]] = defaultdict(dict)
    for place, value, rank, *measured in fetch(statement, {**scope.values(), "starts": starts, "most": most}):
        found[rank, value][place - 1] = Measures(*measured)
    groups = []
    for (_, value), measures in sorted(found.items(), key=lambda each: each[0][0]):
        points = tuple(Point(*span, measures.get(place, NOTHING)) for place, span in enumerate(spans))
        groups.append(Group(value, total(measures.values()), points))
    return Series(
        points=groups[0].points if len(groups) == 1 else added_up(groups, spans),
        totals=total(group.measures for group in groups),
        groups=tuple(groups) if by else (),
    )


def sums_by(scope: Scope, interval: Interval, by: Dimension | None) -> str:
    """Return the beginning of a statement that has `grouped`, each `at` its hour or its day and of one `value`."""
    is_by_hour = interval == Interval.HOUR
    if not by and scope.is_whole:
        begin = sums(scope, by_hour=is_by_hour)
        return f"{begin}, grouped AS (SELECT *, NULL AS value FROM sums)"  # noqa: S608  # As above.
    begin = hourly_cells(scope) if is_by_hour else cells(scope)
    return f"""{begin}, grouped AS (
    SELECT at, {COLUMNS[by] if by else "NULL"} AS value, {MEASURES} FROM cells GROUP BY 1, 2
)"""  # noqa: S608  # As above.


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
    for kind, value, _, *measured in fetch(statement, {**scope.values(), "most": most}):
        groups[kinds[kind]].append(Group(value, Measures(*measured)))
    return {dimension: tuple(found) for dimension, found in groups.items()}


def latency(scope: Scope) -> Latency:
    """Return the percentiles of all the scope's calls, of its meters together."""
    return Latency.of(sum(bucket_counts(scope).values(), Counter()))


def latency_by_meter(scope: Scope) -> dict[str, Latency]:
    """Return the percentiles of the calls of each of the scope's meters."""
    found = bucket_counts(scope)
    meters = enumerate((scope.meter, *scope.beside), start=1)
    return {meter: Latency.of(found[number]) for number, meter in meters}


def latency_by_endpoint(scope: Scope, endpoints: Sequence[str]) -> tuple[Latency, dict[str, Latency]]:
    """Return the percentiles of all the scope's calls, and of those to each of the endpoints."""
    found = bucket_counts(scope, endpoints)
    everything = Latency.of(sum(found.values(), Counter()))
    numbered = enumerate(endpoints, start=1)
    return everything, {
        endpoint: Latency.of(found[number]) for number, endpoint in numbered if number in found
    }


def bucket_counts(scope: Scope, endpoints: Sequence[str] | None = None) -> defaultdict[int, Counter[int]]:
    """Return the calls in each bucket by the number of the meter, or of the endpoint: see `usage.cells.latencies`."""
    statement = latencies(scope, by_endpoint=endpoints is not None)
    found: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for number, bucket, calls in fetch(statement, {**scope.values(), "endpoints": list(endpoints or ())}):
        found[number][bucket] = calls
    return found
