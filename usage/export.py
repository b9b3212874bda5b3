"""Usage as CSV (RFC 4180), written as it is read: a page of rows at a time, however many there are."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from io import StringIO
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from accounts.models import Organization
from usage.cells import Scope, cells, fetch, hourly_cells
from usage.counting import NO_KEY
from usage.local_time import Interval, starts_between
from usage.naming import KeyName, key_names

COLUMNS = [
    *("start", "meter", "period_start", "key_id", "key_name", "endpoint", "status"),
    *("units", "calls", "sent_in", "errors", "mean_ms"),
]
PAGE = 1000
# What a spreadsheet would take for the beginning of a formula, and run; in some languages full-width too, and some
# pass over spaces before it.
FORMULAS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BREAKS = ("\t", "\r", "\n")
Row = tuple[datetime, datetime, UUID, str, int, int, int, int]


def lines(scopes: list[Scope], interval: Interval) -> Iterator[str]:
    """Yield the CSV of each scope in turn, by hour or by day, at first its header.

    No transaction stays open between two pages: whoever reads slowly holds nothing up.
    """
    yield write([COLUMNS])
    for scope in scopes:
        names = key_names(scope.organization)
        zone = ZoneInfo(scope.time_zone)
        for page in pages(scope, interval):
            yield write(present(row, scope.meter, names, zone) for row in page)


def pages(scope: Scope, interval: Interval) -> Iterator[list[Row]]:
    if interval == Interval.HOUR:
        yield from pages_of(scope, hourly_cells(scope))
        return
    starts = starts_between(scope.start, scope.end, interval, ZoneInfo(scope.time_zone))
    for start, end in zip(starts, [*starts[1:], scope.end], strict=True):
        day = replace(scope, start=start, end=end)
        yield from pages_of(day, by_day(day), start=start)


def by_day(day: Scope) -> str:
    """As `cells`, with a row for all hours of the day together."""
    return f"""{cells(day)}, by_day AS (
    SELECT %(start)s::timestamptz AS at, period_start, api_key_id, endpoint, status,
           sum(units)::int8 AS units, sum(calls)::int8 AS calls, sum(response_ms)::int8 AS response_ms
    FROM cells GROUP BY period_start, api_key_id, endpoint, status
)"""  # noqa: S608  # Made of constants.


def pages_of(scope: Scope, begin: str, *, start: datetime | None = None) -> Iterator[list[Row]]:
    """Yield the rows a page at a time. Each page goes on after the last row, which its order is unique by."""
    source = "by_day" if start else "cells"
    after: tuple[Any, ...] | None = None
    while True:
        beyond = (
            "WHERE (at, period_start, api_key_id, endpoint, status) > "
            "(%(at)s, %(period)s, %(key)s, %(name)s, %(code)s)"
            if after
            else ""
        )
        statement = f"""{begin}
SELECT at, period_start, api_key_id, endpoint, status, units, calls, response_ms FROM {source} {beyond}
ORDER BY at, period_start, api_key_id, endpoint, status LIMIT {PAGE}"""  # noqa: S608  # Made of constants.
        names = dict(zip(("at", "period", "key", "name", "code"), after or (None,) * 5, strict=True))
        page: list[Row] = list(fetch(statement, {**scope.values(), **names}))
        if page:
            yield page
        if len(page) < PAGE:
            return
        after = page[-1][:5]


def present(row: Row, meter: str, names: dict[UUID, KeyName], zone: ZoneInfo) -> list[Any]:
    at, period_start, api_key_id, endpoint, status, units, events, response_ms = row
    calls = 0 if status == 0 and api_key_id == NO_KEY else events
    return [
        at.astimezone(zone).isoformat(),
        meter,
        period_start.isoformat(),
        api_key_id,
        harmless(names[api_key_id].name if api_key_id in names else ""),
        harmless(endpoint),
        status,
        units,
        calls,
        events - calls,
        calls if status >= 400 else 0,
        f"{response_ms / calls:.1f}" if status else "",
    ]


def harmless(text: str) -> str:
    is_formula = text.startswith(BREAKS) or text.lstrip().startswith(FORMULAS)
    return f"'{text}" if is_formula else text


def write(rows: Any) -> str:
    written = StringIO()
    csv.writer(written, lineterminator="\r\n").writerows(rows)
    return written.getvalue()


def file_name(organization: Organization, start: datetime, end: datetime) -> str:
    return f"usage-{organization.ref}-{start:%Y-%m-%d}-{end:%Y-%m-%d}.csv"
