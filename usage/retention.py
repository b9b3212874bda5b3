"""Months of the ledger that are old enough are dropped, whole, once nothing depends on their events any more."""

import logging
from datetime import datetime
from itertools import takewhile

from dateutil.relativedelta import relativedelta
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.db.models import Q
from redis.exceptions import RedisError

from billing.models import Entitlement
from billing.periods import Period, calendar_month
from usage import stream
from usage.ledger import STORING
from usage.models import DroppedMonth, MeterReport, UsageRollup
from usage.partitions import existing_months, one_at_a_time, partition_name
from usage.rebuilding import compare

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = "3s"  # Whoever stores events would wait behind us.
# What the month has of each period, which a period of two months is proven by as long as its other month gains.
KEEP_UNITS = """
INSERT INTO usage_dropped_units (month, organization_id, meter, period_start, units)
SELECT %s, organization_id, meter, period_start, sum(units) FROM {name}
GROUP BY organization_id, meter, period_start
"""


def months_past_retention(now: datetime) -> list[Period]:
    """Return the ledger's months that LEDGER_MONTHS no longer keeps, oldest first: so many before the present one."""
    if not settings.LEDGER_MONTHS:
        return []
    first_kept = calendar_month(now).start - relativedelta(months=settings.LEDGER_MONTHS)
    return list(takewhile(lambda month: month.end <= first_kept, existing_months()))


def why_kept(month: Period, *, now: datetime) -> str | None:
    """Return, in a sentence, why a month has to stay however old it is; None where it may go."""
    reason = why_unsettled(month, now=now)
    if reason:
        return reason
    if found := next(compare(start=month.start, end=month.end), None):
        return f"Its rollups differ from it: {found}."
    try:
        oldest = stream.oldest_at()
    except RedisError as error:
        return f"Redis does not say whether events of it are still to be stored: {error}"
    # What arrived since may be of that month too, but only as late as any event may be at any time.
    if oldest is not None and oldest < month.end:
        return f"Events that arrived on {oldest:%Y-%m-%d} are still to be stored."
    return None


def why_unsettled(month: Period, *, now: datetime) -> str | None:
    rollups = UsageRollup.objects.filter(hour__gte=month.start, hour__lt=month.end)
    if rollups.to_report().exists():
        return "Some of its usage is not reported to Stripe yet."
    periods = rollups.order_by().values("period_start").distinct()
    of_month = Q(hour__gte=month.start, hour__lt=month.end) | Q(period_start__in=periods)
    if MeterReport.objects.unsettled().filter(of_month).exists():
        return "Reports to Stripe of its usage are not settled yet."
    if MeterReport.objects.unbilled().filter(of_month).exists():
        return "Stripe refused usage of it that is neither corrected nor accepted yet."
    for entitlement in Entitlement.objects.filter(period_end__gt=now).filter(
        Q(period_start__lt=month.end) | ~Q(carried_from=[])
    ):
        first = entitlement.counted_starts[0]
        if first < month.end:
            return f"A period that is still open began on {first:%Y-%m-%d}."
    return None


def drop_old_partitions(now: datetime) -> list[str]:
    """Drop the months that are to go; return their partitions' names. What is in use is left for the next time."""
    dropped = []
    for month in months_past_retention(now):
        reason = why_kept(month, now=now)
        if reason is None:
            try:
                reason = drop(month, now=now)
            except OperationalError as error:
                reason = str(error)
        if reason is None:
            dropped.append(partition_name(month))
        else:
            logger.warning("The ledger's month %s is kept: %s", f"{month.start:%Y-%m}", reason)
    return dropped


def drop(month: Period, *, now: datetime) -> str | None:
    """Drop a month for good, and remember that it was; return why not, if something of it came in at the last moment.

    Raises OperationalError where the ledger is in use for too long.
    """
    name = partition_name(month)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [STORING])
        one_at_a_time(cursor)
        if reason := why_unsettled(month, now=now):
            return reason
        cursor.execute(f"SELECT count(*), coalesce(sum(units), 0) FROM {name}")  # noqa: S608  # A name of ours.
        events, units = cursor.fetchone()
        DroppedMonth.objects.create(month=month.start, events=events, units=units, dropped_at=now)
        cursor.execute(KEEP_UNITS.format(name=name), [month.start])
        cursor.execute(f"ALTER TABLE usage_event DETACH PARTITION {name}")
        cursor.execute(f"DROP TABLE {name}")
        cursor.execute("SET LOCAL lock_timeout = 0")
    logger.info("Dropped the ledger's month %s: %d events, %d units", f"{month.start:%Y-%m}", events, units)
    return None
