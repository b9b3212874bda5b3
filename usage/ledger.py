"""Write events into the ledger and sum them into the hourly rollups, each exactly once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from usage.events import Event
from usage.models import UsageEvent
from usage.partitions import ensure_partitions_for
from usage.signals import events_stored

COLUMNS = (
    "id, occurred_at, organization_id, api_key_id, meter, units, "
    "period_start, endpoint, method, status, response_ms"
)
TYPES = ["uuid", "timestamptz", "uuid", "uuid", "text", "int8", "timestamptz", "text", "text", "int2", "int4"]

STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS usage_staging (
    id uuid, occurred_at timestamptz, organization_id uuid, api_key_id uuid, meter text, units int8,
    period_start timestamptz, endpoint text, method text, status int2, response_ms int4
) ON COMMIT DELETE ROWS
"""
COPY = f"COPY usage_staging ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
# One statement: an event counts in a rollup if and only if it is new in the ledger. Rollups are touched in
# one order everywhere, so that two drains cannot wait for each other.
STORE = f"""
WITH stored AS (
    INSERT INTO usage_event ({COLUMNS}) SELECT {COLUMNS} FROM usage_staging
    ON CONFLICT (id, occurred_at) DO NOTHING
    RETURNING *
), summed AS (
    INSERT INTO usage_rollup (
        organization_id, meter, hour, period_start, api_key_id, endpoint,
        units, calls, errors, response_ms, reported_units
    )
    SELECT organization_id, meter, date_trunc('hour', occurred_at, 'UTC') AS hour, period_start, api_key_id, endpoint,
           sum(units), count(*), count(*) FILTER (WHERE status BETWEEN 400 AND 499), sum(response_ms), 0
    FROM stored
    GROUP BY organization_id, meter, hour, period_start, api_key_id, endpoint
    ORDER BY organization_id, meter, hour, period_start, api_key_id, endpoint
    ON CONFLICT (organization_id, meter, hour, period_start, api_key_id, endpoint) DO UPDATE SET
        units = usage_rollup.units + excluded.units,
        calls = usage_rollup.calls + excluded.calls,
        errors = usage_rollup.errors + excluded.errors,
        response_ms = usage_rollup.response_ms + excluded.response_ms
    RETURNING 1
)
SELECT count(*) FROM stored
"""  # noqa: S608  # Its only part from outside the string is COLUMNS above.


def store(events: Sequence[Event]) -> int:
    """Store events, and return how many were new. An event that is there already changes nothing.

    The rows arrive by binary COPY in a staging table of this session, because COPY itself cannot skip
    a duplicate.
    """
    if not events:
        return 0
    ensure_partitions_for(event.occurred_at for event in events)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(STAGE)
        # Empty after each commit, but not yet where a larger transaction has called this before.
        cursor.execute("DELETE FROM usage_staging")
        with cursor.copy(COPY) as copy:
            copy.set_types(TYPES)
            for e in events:
                copy.write_row(
                    (
                        e.id,
                        e.occurred_at,
                        e.organization_id,
                        e.api_key_id,
                        e.meter,
                        e.units,
                        e.period_start,
                        e.endpoint,
                        e.method,
                        e.status,
                        e.response_ms,
                    )
                )
        cursor.execute(STORE)
        stored = int(cursor.fetchone()[0])
        # Foreign keys are checked here and not at the commit, which may be a larger transaction's.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        events_stored.send(sender=UsageEvent, last_served=last_served(events))
        return stored


def last_served(events: Sequence[Event]) -> dict[UUID, datetime]:
    """Return when the latest of the events of each API key was served."""
    latest: dict[UUID, datetime] = {}
    for event in events:
        known = latest.get(event.api_key_id)
        if known is None or known < event.occurred_at:
            latest[event.api_key_id] = event.occurred_at
    return latest
