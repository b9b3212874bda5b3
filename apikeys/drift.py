"""How far a quota's counter in Redis is from the ledger: measured, and mended from the ledger.

A counter is charged when a call is admitted, and the ledger has the call a moment after it has ended. A process that
dies with a call leaves the counter too high until the period ends; a counter that was lost while calls were being
served begins too low. Which of the two it is, and by how much, cannot be seen from the two numbers while calls are on
their way. So it is measured in two looks:

1. `mark.lua` writes down, in one step, the moment by Redis's own clock, which is also the one that admits calls, and
   what the counter stands at. From then on what is given back of calls that were admitted up to the mark is noted.
2. At least GRACE later all those calls have ended, and what they came to is in the ledger. Whatever of the reading has
   neither been given back nor is in the ledger belongs to calls that died: `mend.lua` takes it off, or adds it where
   the ledger has more.

Why nobody is let past a hard quota by that: units are taken off only where the call they were charged for will not be
stored, and each way in which a call may be stored later than that is shut:

- Events on the stream: compared only once every entry that was there is in the ledger.
- Reservations: not compared while one from before the mark is held.
- Calls let in by PostgreSQL with Redis away: charged to the counter later. Not marked before they are past, and a mark
  that saw them come is given up.
- Calls that take longer than `late.LATE`, and events that both stores refused for as long: their own last step asks the
  counter before the event is handed over. Where a mark is set it is given up; where the units were taken off, they are
  charged again. So only such a call, while it still runs GRACE after it was admitted, can find the quota used by others
  meanwhile.
- The counter was lost or begun anew: the mark went with it.
- Events with no call may have any time. They are counted beside the counter, under "ingested:<counter>", so both sides
  leave them out; of what they leave behind only that is taken off that cannot be one that came since the mark.

It relies on Redis's clock not being set back by more than calls take, and on no process being stopped for
GRACE - LATE between the end of a call and handing its event over.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import F

from accounts import clock
from accounts.models import Organization
from apikeys import cache
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.late import LATE
from apikeys.models import CounterReading
from apikeys.reservations import Reservation, held_by, moment
from apikeys.scripts import Script
from billing.entitlements import lock_entitlement
from billing.models import Entitlement
from usage import stream
from usage.counting import Account, count_up_to, units_of
from usage.events import Event
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

GRACE = 3 * LATE
SLICE = 1000  # Organizations that one run looks at.
MOST_COMPARED = 500
# Where the next run goes on. In Redis, because with Redis gone there is nothing to measure either.
CURSOR = "tollgate:drift:cursor"
DRAIN_SECONDS = 5.0
MARK = Script("mark.lua", is_repeatable=False)
MEND = Script("mend.lua", is_repeatable=False)

IS_HELD = "A reservation from before it was read is not settled yet."
IS_BEHIND = "The drain is behind: what was used is not all in the ledger yet."
IS_UNCOUNTED = "Calls that PostgreSQL let in are not on the counter yet."


class Counter(NamedTuple):
    """A counter of the current period, and what should be on it."""

    organization: Organization
    meter: str
    period_start: datetime
    account: Account

    @classmethod
    def of(cls, entitlement: Entitlement, meter: str) -> "Counter":
        return cls(entitlement.organization, meter, entitlement.period_start, Account.of(entitlement, meter))

    @property
    def field(self) -> str:
        return cache.counter(self.meter, self.period_start)

    @property
    def key(self) -> str:
        return cache.names(self.organization.ref).used


class Drifts(NamedTuple):
    """What a run did: counters that it began to measure, compared, and of these had to mend."""

    marked: int
    compared: int
    mended: int


def measure(*, limit: int = SLICE) -> Drifts:
    """Compare the counters that were read long enough ago, and read the next ones. Two runs at once do no harm.

    Raises RedisError.
    """
    compared = compare_due()
    return Drifts(mark_next(limit), len(compared), sum(units != 0 for units in compared))


def mark_next(limit: int) -> int:
    """Begin to measure the counters of the next organizations that differ from the ledger; return how many."""
    redis = get_redis()
    after: Any = redis.get(CURSOR)
    rows = Entitlement.objects.select_related("organization").order_by("pk")
    batch = list((rows.filter(pk__gt=after) if after else rows)[:limit])
    if len(batch) == limit:
        redis.set(CURSOR, str(batch[-1].pk))
    else:
        redis.delete(CURSOR)
    return mark_differing(batch)


def mark_differing(entitlements: Sequence[Entitlement]) -> int:
    now = clock.now()
    counters = [
        Counter.of(each, meter) for each in entitlements for meter in each.quotas if now < each.period_end
    ]
    recorded = units_of([counter.account for counter in counters])
    # After the ledger: what is in it was charged before, so a counter that is below it lacks something.
    pipeline = get_redis().pipeline(transaction=False)
    for counter in counters:
        pipeline.hget(counter.key, counter.field)
    marked, in_line = 0, []
    for counter, units, held in zip(counters, recorded, pipeline.execute(), strict=True):
        if held is None:
            continue
        if int(held) == units:
            in_line.append(counter)
        else:
            marked += mark(counter, ledger=units)
    forget_differences(in_line)
    return marked


def mark(counter: Counter, *, ledger: int) -> bool:
    """Read a counter, unless it is being measured already; return whether it was. It is `ledger` at least then."""
    with transaction.atomic():
        lock_entitlement(counter.organization)
        readings = CounterReading.objects.filter(
            organization=counter.organization, meter=counter.meter, period_start=counter.period_start
        )
        known = readings.first()
        if (known and known.marked_at) or counter.organization.uncounted_units.exists():
            return False
        answer = MARK.run([counter.key], [counter.field, ledger, in_microseconds(GRACE), moment()])
        if answer[0] != "marked":
            return False
        CounterReading.objects.update_or_create(
            organization=counter.organization,
            meter=counter.meter,
            period_start=counter.period_start,
            defaults={
                "counter": int(answer[2]),
                "ledger": ledger,
                "marked_at": from_microseconds(answer[1]),
                "differs_since": (known and known.differs_since) or clock.now(),
                "note": "",
            },
        )
        return True


def forget_differences(counters: Sequence[Counter]) -> None:
    """Let go of what was noted of counters that are in line, and of periods that are over."""
    noted = CounterReading.objects.exclude(differs_since=None)
    noted.exclude(period_start=F("organization__entitlement__period_start")).update(
        marked_at=None, differs_since=None
    )
    by_organization = {(counter.organization.pk, counter.meter) for counter in counters}
    unmarked = noted.filter(marked_at=None, organization__in={pk for pk, _ in by_organization})
    settled = [each.pk for each in unmarked if (each.organization_id, each.meter) in by_organization]
    CounterReading.objects.filter(pk__in=settled).update(differs_since=None, note="")


def compare_due() -> list[int]:
    """Compare what was read long enough ago; return by how many units each counter was mended."""
    due = CounterReading.objects.open().filter(marked_at__lte=clock.now() - GRACE)
    readings = list(due.select_related("organization").order_by("marked_at")[:MOST_COMPARED])
    if not readings:
        return []
    # In the order in which events go: from a reservation to the stream to the ledger.
    held = {each.organization.ref: held_events(each.organization.ref) for each in readings}
    if not stream.wait_until_stored(seconds=DRAIN_SECONDS):
        note(readings, IS_BEHIND)
        return []
    found = []
    for reading in readings:
        if is_held(reading, held[reading.organization.ref]):
            note([reading], IS_HELD)
            continue
        units = compare(reading)
        if units is not None:
            found.append(units)
    return found


def held_events(ref: str) -> list[Event] | None:
    """Return what is reserved; None where a record cannot be read."""
    try:
        return [Reservation.read(ref, record).event for _, record in held_by(ref)]
    except ValueError:
        return None


def is_held(reading: CounterReading, events: list[Event] | None) -> bool:
    marked = reading.marked_at
    return events is None or any(
        event.meter == reading.meter and marked is not None and event.occurred_at <= marked
        for event in events
    )


def compare(reading: CounterReading) -> int | None:
    """Mend one counter; return the units that were taken off, None where it could not be compared."""
    organization, marked_at = reading.organization, reading.marked_at
    if marked_at is None:
        return None
    with transaction.atomic():
        entitlement = lock_entitlement(organization)
        if entitlement.period_start != reading.period_start or reading.meter not in entitlement.quotas:
            close(reading, differs_since=None)
            return None
        if organization.uncounted_units.exists():
            note([reading], IS_UNCOUNTED)
            return None
        counter = Counter.of(entitlement, reading.meter)
        called, ingested = count_up_to(
            marked_at, organization_id=organization.pk, meter=counter.meter, starts=counter.account.starts
        )
        mark = to_microseconds(marked_at)
        answer = MEND.run(
            [counter.key],
            [counter.field, mark, called, ingested, in_microseconds(GRACE), moment()],
        )
        if answer[0] != "mended":
            if answer[0] != "early":
                close(reading)  # It is read anew.
            return None
        units = int(answer[1])
        close(
            reading,
            differs_since=None,
            checked_at=clock.now(),
            drift=units,
            mended_units=reading.mended_units + units,
            mended_at=clock.now() if units else reading.mended_at,
        )
    if units:
        logger.info("The counter of %s's %s was %+d units off", organization.ref, reading.meter, units)
    return units


def note(readings: Sequence[CounterReading], text: str) -> None:
    CounterReading.objects.filter(pk__in=[each.pk for each in readings]).update(note=text)


def close(reading: CounterReading, **changes: Any) -> None:
    mine = CounterReading.objects.filter(pk=reading.pk, marked_at=reading.marked_at)
    mine.update(**({"marked_at": None, "note": ""} | changes))


def in_microseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
