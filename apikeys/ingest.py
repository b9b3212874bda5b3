"""The quota's counters learn what was ingested."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

from django.db import DataError
from redis.exceptions import RedisError, ResponseError

from apikeys import cache, without_redis
from apikeys.models import UncountedUnits
from apikeys.scripts import Script
from usage.outage import outage
from usage.redis_client import is_cluster

# Sent again it might count twice, which refuses calls too early.
COUNT = Script("count.lua", is_repeatable=False)
# Organizations whose counters one command raises. In a cluster each may be in another slot, and has one of its own.
AT_ONCE = 100

# Meter, start of the period, units.
Part = tuple[str, datetime, int]


def count(units: Mapping[tuple[UUID, str, datetime], int], refs: Mapping[UUID, str]) -> None:
    """Raise the counters by units that are being stored, by organization, meter and start of their period.

    Part of the transaction that stores them, which has the organizations' entitlements locked: whoever makes a counter
    anew has the lock too, and reads the units either in PostgreSQL or here. Should the transaction fail after all,
    the counters are too high, and calls are refused too early, never too late. With Redis out of reach they
    learn it when it is back. Raises DataError where a counter cannot hold so many.
    """
    look_again()
    by_organization: dict[UUID, list[Part]] = defaultdict(list)
    for (organization_id, meter, period_start), number in units.items():
        by_organization[organization_id].append((meter, period_start, number))
    missed: list[UncountedUnits] = []
    for group in batched(by_organization, 1 if is_cluster() else AT_ONCE):
        if not tell({refs[each]: by_organization[each] for each in group}):
            missed += [
                UncountedUnits(
                    organization_id=organization_id,
                    meter=meter,
                    period_start=period_start,
                    units=number,
                    is_stored=True,
                )
                for organization_id in group
                for meter, period_start, number in by_organization[organization_id]
            ]
    UncountedUnits.objects.bulk_create(missed)


def batched(organization_ids: Iterable[UUID], size: int) -> Iterator[list[UUID]]:
    rest = iter(organization_ids)
    while group := list(islice(rest, size)):
        yield group


def look_again() -> None:
    """Where Redis was out of reach and may be back, have the counters learn what they missed."""
    if outage.was_seen and not outage.is_on:
        try:
            without_redis.take_up()
        except RedisError:
            outage.begin()
        else:
            outage.end()


def tell(parts: Mapping[str, Sequence[Part]]) -> bool:
    """Raise the counters of some organizations, by ref; return whether that is sure to have been done.

    Raises DataError where a counter cannot hold so many.
    """
    if outage.is_on:
        return False
    args: list[str | int] = []
    for place, of_one in enumerate(parts.values(), start=1):
        for meter, period_start, number in of_one:
            args += [place, cache.counter(meter, period_start), number]
    try:
        COUNT.run([cache.names(ref).used for ref in parts], args)
    except RedisError as error:
        if isinstance(error, ResponseError) and "would overflow" in str(error):
            # Redis answers, and these are for nobody to count.
            raise DataError(str(error)) from error
        outage.begin()
        return False
    return True
