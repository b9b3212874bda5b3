"""The measuring and mending of a counter against a book of every call: any order of calls, deaths, losses and looks."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, note
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import clock
from apikeys import cache, drift, without_redis
from apikeys.calls import Call, settle
from apikeys.decision import Decision
from apikeys.gate import admit
from apikeys.late import LATE
from apikeys.models import APIKey, CounterReading, UncountedUnits
from apikeys.reservation_settlement import Outcome
from apikeys.reservation_settlement import settle as settle_reservation
from apikeys.reservations import Hold, Reservation
from apikeys.secret import parse
from apikeys.tasks import bill_unsettled
from billing.models import Entitlement
from tests.exhaustive import IS_EXHAUSTIVE
from tests.usage.cast import make_event
from usage import ledger
from usage.counting import NO_KEY
from usage.models import UsageEvent, UsageRollup
from usage.redis_client import get_redis
from usage.stream import Drain

pytestmark = [pytest.mark.django_db, pytest.mark.long]
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=20, second=0, microsecond=0)
START = NOON - timedelta(days=7)
QUOTA = 80

some = st.integers(0, 9)
units = st.integers(1, 9)
STEPS = {
    "call": (6, units),
    "end": (4, some, some),
    "fail": (2, some),
    "die": (1, some),
    "reserve": (1, units),
    "settle": (1, some, some),
    "sweep": (1,),
    "call without redis": (1, units),
    "ingest": (1, units, st.integers(0, 6)),
    "ingest and die": (1, units),
    "lose all": (1,),
    "drop the facts": (1,),
    "drain": (1,),
    "wait": (4, st.sampled_from([1, 400, 1000, 1000])),
    "measure": (4, st.sampled_from([True, True, True, False])),
}
choices = st.sampled_from([name for name, (often, *_) in STEPS.items() for _ in range(often)]).flatmap(
    lambda name: st.tuples(st.just(name), *STEPS[name][1:])
)


@dataclass(eq=False)
class Served:
    """A call in the book. `is_owed` as long as the counter has to stand for it, whatever happens."""

    at: datetime
    cost: int
    decision: Decision | None = None
    reservation: Reservation | None = None
    units: int | None = None
    is_dead: bool = False
    is_owed: bool = True

    @property
    def is_running(self):
        return self.units is None and not self.is_dead


@dataclass
class Book:
    organization: object
    secret: str
    hands: clock.Hands
    now: datetime = NOON
    calls: list[Served] = field(default_factory=list)
    ingested: int = 0

    @property
    def running(self):
        return [call for call in self.calls if call.is_running and not call.reservation]

    @property
    def reserved(self):
        return [call for call in self.calls if call.is_running and call.reservation]

    def tick(self, **span):
        self.now += timedelta(**(span or {"microseconds": 1}))
        self.hands.move(self.now)

    def call(self, cost):
        decision = admit(self.secret, cost=cost)
        if decision.admitted:
            self.calls.append(Served(self.now, cost, decision))

    def call_without_redis(self, cost):
        decision = without_redis.decide(
            parse(self.secret), meter="requests", cost=cost, scopes=(), address="", now=None
        )
        if decision.admitted:
            self.calls.append(Served(self.now, cost, decision))

    def reserve(self, cost):
        decision = admit(self.secret, cost=cost, hold=Hold.of(endpoint="verify", method=""))
        if decision.admitted:
            record = Reservation.read(decision.ref, decision.reservation)
            self.calls.append(Served(self.now, cost, reservation=record))

    def end(self, number, units):
        call = pick(self.running, number)
        if call:
            served = Call(call.decision)
            served.units = min(units, call.cost)
            self.finish(call, served, status=200)

    def fail(self, number):
        call = pick(self.running, number)
        if call:
            self.finish(call, Call(call.decision), status=500)

    def finish(self, call, served, *, status):
        taken = (self.now - call.at) // timedelta(milliseconds=1)
        call.units = served.units_due(status)
        if self.now - call.at >= LATE:
            call.is_owed = True  # Whatever became of its units meanwhile, it asks the counter itself.
        settle(served, status=status, endpoint="/e", method="GET", response_ms=taken)

    def die(self, number):
        call = pick(self.running, number)
        if call:
            call.is_dead = True

    def settle(self, number, units):
        call = pick(self.reserved, number)
        if call:
            call.units = min(units, call.cost)
            settle_reservation(
                call.reservation,
                Outcome(units=call.units, status=200, endpoint="e", method="", response_ms=0),
            )

    def sweep(self):
        bill_unsettled()
        for call in self.reserved:
            if self.now >= call.reservation.due:
                call.units = call.cost

    def ingest(self, units, days):
        """As `POST /api/v1/events` does: the counter inside the transaction, where there is one."""
        self.charge_ingested(units)
        at = max(self.now - timedelta(days=days), START)
        event = make_event(
            organization_id=self.organization.pk,
            at=at,
            units=units,
            status=0,
            period_start=START,
            api_key_id=NO_KEY,
        )
        ledger.store([event])
        self.ingested += units

    def ingest_and_die(self, units):
        self.charge_ingested(units)

    def charge_ingested(self, units):
        if get_redis().hexists(self.used, self.counter):
            get_redis().hincrby(self.used, self.counter, units)
            get_redis().hincrby(self.used, f"ingested:{self.counter}", units)

    def lose_all(self):
        get_redis().delete(self.used)
        # What was being served is in neither place: the new counter cannot know of it.
        for call in self.running:
            call.is_owed = False

    def drop_the_facts(self):
        cache.drop(self.organization.ref)

    def drain(self):
        Drain(consumer="model").run_once()

    def wait(self, seconds):
        self.tick(seconds=seconds)

    def measure(self, is_drained):
        if is_drained:
            self.drain()
        drift.measure()
        for call in self.running:
            if self.now - call.at >= drift.GRACE:
                call.is_owed = False

    @property
    def used(self):
        return cache.names(self.organization.ref).used

    @property
    def counter(self):
        return cache.counter("requests", START)

    @property
    def counted(self):
        """Units on the counter, and those that it will be raised by; None where there is none."""
        held = get_redis().hget(self.used, self.counter)
        waiting = sum(UncountedUnits.objects.values_list("units", flat=True))
        return None if held is None else int(held) + waiting

    @property
    def owed(self):
        """Units that the counter must not be below: what was used, and what calls may still come to."""
        calls = [call for call in self.calls if call.is_owed and not call.is_dead]
        return self.ingested + sum(call.cost if call.units is None else call.units for call in calls)

    @property
    def recorded(self):
        return sum(UsageRollup.objects.values_list("units", flat=True))


def pick(calls, number):
    return calls[number % len(calls)] if calls else None


@pytest.mark.exhaustive
@example(
    steps=[("call without redis", 8), ("call", 1), ("lose all",), ("call", 1), ("fail", 0)],
)
@hypothesis_settings(
    max_examples=2000 if IS_EXHAUSTIVE else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(choices, min_size=12, max_size=40))
def test_a_counter_is_never_below_what_was_used_and_comes_to_exactly_the_ledger(organization, api_key, steps):
    with clock.standing_at(NOON) as hands:
        book = lay_out(organization, api_key, hands)
        for name, *arguments in steps:
            book.tick()
            note(f"{book.now:%H:%M:%S} {name} {arguments}")
            getattr(book, name.replace(" ", "_"))(*arguments)
            note(f"    counter {book.counted} owed {book.owed}")
            if book.counted is not None:
                assert book.counted >= book.owed
        come_to_rest(book)
        used = sum(call.units or 0 for call in book.calls)
        assert book.recorded == used + book.ingested
        assert admit(api_key.secret, cost=0).admitted
        assert book.counted == book.recorded


def lay_out(organization, api_key, hands):
    get_redis().flushdb()
    for model in (UncountedUnits, CounterReading, UsageEvent, UsageRollup):
        model.objects.all().delete()
    APIKey.objects.filter(pk=api_key.key.pk).update(created_at=START)
    Entitlement.objects.filter(organization=organization).update(
        rate_per_minute=None,
        burst=None,
        quotas={"requests": {"included": QUOTA, "overage": "block"}},
        period_start=START,
        period_end=NOON + timedelta(days=7),
        valid_until=NOON + timedelta(days=7),
    )
    cache.drop(organization.ref)
    return Book(organization, api_key.secret, hands)


def come_to_rest(book):
    """Let every call end or be dead, and all be stored and measured."""
    for call in book.running:
        call.is_dead = True
    book.tick(hours=1)
    book.sweep()
    without_redis.take_up()
    admit(book.secret, cost=0)
    for _ in range(3):
        book.drain()
        # Both looks, a while after whatever was taken up; the first may find that an earlier mark was given up.
        book.tick(hours=1)
        drift.measure()
