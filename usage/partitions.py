"""The ledger's table: range-partitioned by UTC month, so that old months can be dropped whole."""

from collections.abc import Iterable
from datetime import datetime

from dateutil.relativedelta import relativedelta
from django.db import connection

from billing.periods import Period, calendar_month

CREATE_TABLE = """
CREATE TABLE usage_event (
    id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    organization_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    meter varchar(40) NOT NULL,
    units bigint NOT NULL CHECK (units >= 0),
    period_start timestamptz NOT NULL CHECK (period_start <= occurred_at),
    endpoint varchar(200) NOT NULL,
    method varchar(10) NOT NULL,
    status smallint NOT NULL,
    response_ms integer NOT NULL,
    value bigint,
    distinct_key uuid,
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX usage_event_organization ON usage_event (organization_id, occurred_at);
"""
DROP_TABLE = "DROP TABLE usage_event;"
# Any number will do, as long as nothing else uses it: it makes one process at a time add partitions.
LOCK = 0x7011_6A7E


def partition_name(month: Period) -> str:
    return f"usage_event_{month.start:%Y_%m}"


def ensure_partition(moment: datetime) -> str:
    """Make the partition of the month around `moment` exist and return its name."""
    month = calendar_month(moment)
    name = partition_name(month)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [name])
        if cursor.fetchone()[0] is None:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            try:
                cursor.execute(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF usage_event"
                    f" FOR VALUES FROM ('{month.start.isoformat()}') TO ('{month.end.isoformat()}')"
                )
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    return name


def ensure_partitions_ahead(now: datetime, *, months: int = 3) -> list[str]:
    """Make this month's partition and the next ones exist before anything needs them."""
    return [ensure_partition(now + relativedelta(months=n)) for n in range(months + 1)]


def ensure_partitions_for(moments: Iterable[datetime]) -> None:
    """Make room for events of any month: one outside the usual range is late, not lost."""
    for start in {calendar_month(moment).start for moment in moments}:
        ensure_partition(start)
