"""The ledger's table: range-partitioned by UTC month, so that old months can be dropped whole."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dateutil.relativedelta import relativedelta
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from billing.periods import Period, calendar_month
from usage.models import DroppedMonth

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
# Any number will do, as long as nothing else uses it: it makes one process at a time add or drop partitions.
LOCK = 0x7011_6A7E
# What is further from the present has a wrong date, and is a matter for a person: no month is made for it.
LATEST = relativedelta(months=1)
EARLIEST = relativedelta(years=10)


class OutOfReach(ValueError):
    """The ledger has no month for an event, and will have none. The message says why."""


def partition_name(month: Period) -> str:
    return f"usage_event_{month.start:%Y_%m}"


def reach(now: datetime) -> Period:
    """Return the whole months that events may lie in: ten years back, and to the end of the next."""
    return Period(calendar_month(now - EARLIEST).start, calendar_month(now + LATEST).end)


def check_reach(moments: Iterable[datetime], *, now: datetime) -> None:
    """Raises OutOfReach for a moment that is far from the present, such as year 1."""
    within = reach(now)
    for moment in moments:
        if moment not in within:
            span = f"{within.start:%Y-%m} to {now + LATEST:%Y-%m}"
            raise OutOfReach(f"{moment.isoformat()} lies outside what the ledger takes, {span}.")


def has_partition(month: Period) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s)", [partition_name(month)])
        return cursor.fetchone()[0] is not None


def existing_months() -> list[Period]:
    """Return the months that the ledger has, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'usage_event'::regclass"
        )
        names = sorted(name for (name,) in cursor.fetchall())
    starts = [datetime.strptime(name, "usage_event_%Y_%m").replace(tzinfo=UTC) for name in names]
    return [calendar_month(start) for start in starts]


def ensure_partition(moment: datetime) -> str:
    """Make the partition of the month around `moment` exist and return its name.

    Raises OutOfReach for a month that was dropped: its events have been counted, and cannot be told from new ones.
    """
    month = calendar_month(moment)
    name = partition_name(month)
    if has_partition(month):
        return name
    with transaction.atomic(), connection.cursor() as cursor:
        one_at_a_time(cursor)
        if DroppedMonth.objects.filter(month=month.start).exists():
            raise OutOfReach(
                f"The ledger's month {month.start:%Y-%m} was dropped: nothing is added to it any more."
            )
        cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF usage_event"
            f" FOR VALUES FROM ('{month.start.isoformat()}') TO ('{month.end.isoformat()}')"
        )
    return name


def one_at_a_time(cursor: CursorWrapper) -> None:
    """Wait for other processes that add or drop partitions, and keep them waiting until the transaction ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])


def ensure_partitions_ahead(now: datetime, *, months: int = 3) -> list[str]:
    """Make this month's partition and the next ones exist before anything needs them."""
    start = calendar_month(now).start
    return [ensure_partition(start + relativedelta(months=n)) for n in range(months + 1)]


def ensure_partitions_for(moments: Iterable[datetime]) -> None:
    """Make room for events of any month: one outside the usual range is late, not lost. Raises OutOfReach."""
    for start in {calendar_month(moment).start for moment in moments}:
        ensure_partition(start)


def ready_span(now: datetime) -> Period:
    """Return a span with partitions throughout: this month, and the ones beside it where they have one."""
    month = calendar_month(now)
    ensure_partition(month.start)
    before, after = calendar_month(month.start - timedelta(days=1)), calendar_month(month.end)
    return Period(
        before.start if has_partition(before) else month.start,
        after.end if has_partition(after) else month.end,
    )
