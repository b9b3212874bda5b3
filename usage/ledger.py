"""Write events into the ledger and sum them into the hourly rollups, each exactly once.

There are two ways, with one outcome. `store` takes any events: they are staged, and what turns out to be new is moved
and counted in one statement. `store_new` is for a batch of which nothing is there yet, as nearly every batch is: it
copies straight into the ledger, which refuses the whole where one is there.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from accounts import clock
from usage.batches import BEGINNING, END, ROW, SUM, Batch
from usage.events import Event
from usage.latency import SHIFT, SQL_ADDED, SQL_BUCKET
from usage.models import UsageEvent
from usage.partitions import check_reach, ensure_partitions_for
from usage.signals import events_stored

Row = tuple[Any, ...]

COLUMNS = (
    "id, occurred_at, organization_id, api_key_id, meter, units, "
    "period_start, endpoint, method, status, response_ms, value, distinct_key"
)
TYPES = [
    *("uuid", "timestamptz", "uuid", "uuid", "text", "int8", "timestamptz", "text", "text", "int2", "int4"),
    *("int8", "uuid"),
]

STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS usage_staging (
    id uuid, occurred_at timestamptz, organization_id uuid, api_key_id uuid, meter text, units int8,
    period_start timestamptz, endpoint text, method text, status int2, response_ms int4, value int8, distinct_key uuid
) ON COMMIT DELETE ROWS
"""
COPY = f"COPY usage_staging ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
# What a rollup is found by: as its unique constraint has it.
ROLLUP = "organization_id, meter, hour, period_start, api_key_id, endpoint, status"
# Rollups of the present are added to with every batch. With room beside each row PostgreSQL puts its next version
# there, and no index learns of it: a third of the time. The migrations say so to the table.
ROLLUP_STORAGE = "ALTER TABLE usage_rollup SET (fillfactor = 60)"
# Rollups are touched in one order everywhere, so that two drains cannot wait for each other.
ADD = f"""
    ORDER BY {ROLLUP}
    ON CONFLICT ({ROLLUP}) DO UPDATE SET
        units = usage_rollup.units + excluded.units,
        calls = usage_rollup.calls + excluded.calls,
        response_ms = usage_rollup.response_ms + excluded.response_ms,
        latency = {SQL_ADDED}
"""
# One statement: an event counts in a rollup if and only if it is new in the ledger.
STORE = f"""
WITH stored AS (
    INSERT INTO usage_event ({COLUMNS}) SELECT {COLUMNS} FROM usage_staging
    ON CONFLICT (id, occurred_at) DO NOTHING
    RETURNING *
), timed AS (
    SELECT organization_id, meter, date_trunc('hour', occurred_at, 'UTC') AS hour, period_start, api_key_id,
           endpoint, status, {SQL_BUCKET} AS bucket,
           sum(units) AS units, count(*) AS calls, sum(response_ms) AS response_ms
    FROM stored
    GROUP BY {ROLLUP}, bucket
), summed AS (
    INSERT INTO usage_rollup ({ROLLUP}, units, calls, response_ms, latency, reported_units)
    SELECT {ROLLUP}, sum(units), sum(calls), sum(response_ms),
           array_agg((bucket << {SHIFT}) + calls ORDER BY bucket), 0
    FROM timed
    GROUP BY {ROLLUP}
    {ADD}
    RETURNING 1
)
SELECT count(*) FROM stored
"""  # noqa: S608  # Its parts from outside the string are constants of this package.

COPY_NEW = f"COPY usage_event ({ROW}) FROM STDIN (FORMAT BINARY)"
GATHER = """
CREATE TEMPORARY TABLE IF NOT EXISTS usage_sums (
    organization_id uuid, meter text, hour timestamptz, period_start timestamptz, api_key_id uuid, endpoint text,
    status int2, units int8, calls int8, response_ms int8, latency int8[]
) ON COMMIT DELETE ROWS
"""
COPY_SUMS = f"COPY usage_sums ({SUM}) FROM STDIN (FORMAT BINARY)"
ADD_SUMS = f"""
    INSERT INTO usage_rollup ({ROLLUP}, units, calls, response_ms, latency, reported_units)
    SELECT {ROLLUP}, units, calls, response_ms, latency, 0 FROM usage_sums
    {ADD}
"""  # noqa: S608  # As above.
# Any number will do, as long as nothing else uses it. Whoever stores holds it shared, to its transaction's end;
# whoever rebuilds rollups from the ledger holds it alone, and so sees either all of a batch or nothing.
STORING = 0x7011_5703


def store(events: Sequence[Event]) -> int:
    """Store events, and return how many were new. An event that is there already changes nothing.

    Raises OutOfReach where the ledger has no month for one, IntegrityError or DataError where it cannot be stored.
    """
    if not events:
        return 0
    check_reach((event.occurred_at for event in events), now=clock.now())
    ensure_partitions_for(event.occurred_at for event in events)
    with transaction.atomic(), connection.cursor() as cursor:
        stage(cursor, map(row_of, events))
        stored = store_staged(cursor)
        events_stored.send(sender=UsageEvent, last_served=last_served(events))
        return stored


def store_new(batch: Batch, rows: Iterable[bytes]) -> None:
    """Store a batch of which nothing is in the ledger yet: `rows` are its rows, which it counts as they are taken.

    Raises IntegrityError where an event is there already, or named twice, and that, DataError or struct.error where
    one cannot be stored. Nothing is stored then: it is `store` that finds out which.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        hold_off_rebuilding(cursor)
        with connection.wrap_database_errors, cursor.copy(COPY_NEW) as copy:
            copy.write(BEGINNING)
            for block in rows:
                copy.write(block)
            copy.write(END)
        # Rollups of the hour are what all drains want to write: they are locked last, and for no longer than it takes.
        sums = b"".join(batch.sums())
        cursor.execute(GATHER)
        cursor.execute("DELETE FROM usage_sums")
        with connection.wrap_database_errors, cursor.copy(COPY_SUMS) as copy:
            copy.write(BEGINNING + sums + END)
        cursor.execute(ADD_SUMS)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        events_stored.send(sender=UsageEvent, last_served=batch.last_served())


def hold_off_rebuilding(cursor: CursorWrapper) -> None:
    """Keep rollups from being rebuilt until the transaction ends. Any number may store at once."""
    cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [STORING])


def row_of(event: Event) -> Row:
    return (
        event.id,
        event.occurred_at,
        event.organization_id,
        event.api_key_id,
        event.meter,
        event.units,
        event.period_start,
        event.endpoint,
        event.method,
        event.status,
        event.response_ms,
        None,
        None,
    )


def stage(cursor: CursorWrapper, rows: Iterable[Row]) -> None:
    """Put rows, in the order of COLUMNS, in this session's staging table, which had none. Part of a transaction.

    By binary COPY, which by itself cannot skip a duplicate.
    """
    hold_off_rebuilding(cursor)
    cursor.execute(STAGE)
    # Empty after each commit, but not yet where a larger transaction has called this before.
    cursor.execute("DELETE FROM usage_staging")
    with connection.wrap_database_errors, cursor.copy(COPY) as copy:
        copy.set_types(TYPES)
        for row in rows:
            copy.write_row(row)


def store_staged(cursor: CursorWrapper) -> int:
    """Put what is staged and new in the ledger and in the rollups; return how many rows were new."""
    cursor.execute(STORE)
    stored = int(cursor.fetchone()[0])
    # Foreign keys are checked here and not at the commit, which may be a larger transaction's.
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return stored


def last_served(events: Sequence[Event]) -> dict[UUID, datetime]:
    """Return when the latest of the events of each API key was served."""
    latest: dict[UUID, datetime] = {}
    for event in events:
        known = latest.get(event.api_key_id)
        if known is None or known < event.occurred_at:
            latest[event.api_key_id] = event.occurred_at
    return latest
