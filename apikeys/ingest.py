"""The quota's counters learn what was ingested."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from redis.exceptions import RedisError

from apikeys import cache, without_redis
from apikeys.models import UncountedUnits
from apikeys.scripts import Script
from usage.outage import outage

# Sent again it might count twice, which refuses calls too early.
COUNT = Script("count.lua", is_repeatable=False)


def count(units: Mapping[tuple[UUID, str, datetime], int], refs: Mapping[UUID, str]) -> None:
    """Raise the counters by units that are being stored, by organization, meter and start of their period.

    Part of the transaction that stores them, which has the organizations' entitlements locked: whoever makes a counter
    anew has the lock too, and reads the units either in PostgreSQL or here. Should the transaction fail after all,
    the counters are too high, and calls are refused too early, never too late. With Redis out of reach they
    learn it when it is back.
    """
    look_again()
    by_organization: dict[UUID, list[tuple[str, datetime, int]]] = defaultdict(list)
    for (organization_id, meter, period_start), number in units.items():
        by_organization[organization_id].append((meter, period_start, number))
    missed: list[UncountedUnits] = []
    for organization_id, parts in by_organization.items():
        if not tell(refs[organization_id], parts):
            missed += [
                UncountedUnits(
                    organization_id=organization_id,
                    meter=meter,
                    period_start=period_start,
                    units=number,
                    is_stored=True,
                )
                for meter, period_start, number in parts
            ]
    UncountedUnits.objects.bulk_create(missed)


def look_again() -> None:
    """Where Redis was out of reach and may be back, have the counters learn what they missed."""
    if outage.was_seen and not outage.is_on:
        try:
            without_redis.take_up()
        except RedisError:
            outage.begin()
        else:
            outage.end()


def tell(ref: str, parts: list[tuple[str, datetime, int]]) -> bool:
    """Raise an organization's counters; return whether that is sure to have been done."""
    if outage.is_on:
        return False
    args: list[str | int] = []
    for meter, period_start, number in parts:
        args += [cache.counter(meter, period_start), number]
    try:
        COUNT.run([cache.names(ref).used], args)
    except RedisError:
        outage.begin()
        return False
    return True
