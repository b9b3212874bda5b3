"""Calls that died, are slow or were given back: only the dead are taken off their counter."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as Lost

from accounts import clock
from apikeys import cache, drift, gate, late, settlement
from apikeys.gate import admit
from apikeys.late import LATE
from apikeys.models import CounterReading, UncountedUnits
from apikeys.reservation_settlement import settle as settle_reservation
from apikeys.reservations import Hold, Reservation, names
from apikeys.tasks import bill_unsettled
from apikeys.without_redis import take_up
from tests.apikeys.drifting import NOON, call, drain, end, in_ledger, look_twice, reserve, serve
from tests.apikeys.reserving import outcome
from tests.apikeys.test_gate import set_limits, used
from tests.usage.cast import make_event
from usage import metering
from usage.redis_client import get_redis
from usage.stream import REFUSED

pytestmark = pytest.mark.django_db


@pytest.fixture
def hands(organization, api_key):
    """A clock that stands at noon, and Acme with 10 calls a month."""
    set_limits(organization, rate=None, quota=10)
    with clock.standing_at(NOON) as hands:
        yield hands


def test_a_call_that_died_with_its_process_is_taken_off_the_counter(organization, api_key, hands):
    serve(api_key, calls=3)
    for _ in range(7):
        call(api_key)  # Admitted, and never heard of again.
    assert admit(api_key.secret).reason == "quota_exceeded"

    assert look_twice(hands).mended == 1

    assert used(organization) == in_ledger() == 3
    assert [admit(api_key.secret).reason for _ in range(8)] == ["admitted"] * 7 + ["quota_exceeded"]
    reading = CounterReading.objects.get()
    assert (reading.counter, reading.drift, reading.mended_units) == (10, 7, 7)


def test_nothing_is_taken_off_before_a_call_had_its_time(organization, api_key, hands):
    call(api_key)
    drift.measure()
    hands.move(NOON + drift.GRACE - timedelta(seconds=1))

    assert drift.measure().compared == 0
    assert used(organization) == 1


def test_calls_that_were_on_their_way_at_the_first_look_and_ended_stay_counted(organization, api_key, hands):
    running = [call(api_key, cost=2) for _ in range(4)]
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    end(running[0])
    end(running[1], units=1)
    end(running[2], status=500)
    hands.move(NOON + timedelta(minutes=1))
    serve(api_key, calls=2)
    drain()
    hands.move(NOON + timedelta(hours=1))

    assert drift.measure().mended == 1  # The fourth died.

    assert used(organization) == in_ledger() == 2 + 1 + 2


def test_what_is_given_back_at_once_is_not_taken_off_as_well(organization, api_key, hands):
    serve(api_key, calls=2)
    lost, failing = call(api_key, cost=3), call(api_key, cost=4)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    end(failing, status=503)
    drain()
    hands.move(NOON + timedelta(hours=1))
    drift.compare_due()  # Alone: the next look would raise it to the ledger.

    assert lost.cost == 3
    assert used(organization) == in_ledger() == 2


def test_a_call_that_ends_after_it_was_taken_for_dead_is_charged_again(organization, api_key, hands):
    slow = call(api_key, cost=6)
    look_twice(hands)
    assert used(organization) == 0

    end(slow, units=5, after=clock.now() - NOON)

    assert used(organization) == 5 == in_ledger()
    look_twice(hands)
    assert used(organization) == 5


def test_a_slow_call_whose_event_is_still_to_come_is_not_taken_for_dead(
    organization, api_key, hands, monkeypatch
):
    slow = call(api_key, cost=6)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    hands.move(NOON + timedelta(hours=1))

    def record_after_a_look(event):
        assert drift.measure().mended == 0
        metering.record(event)

    with monkeypatch.context() as patch:
        patch.setattr(settlement, "metering", SimpleNamespace(record=record_after_a_look))
        end(slow, after=drift.GRACE)

    assert used(organization) == 6 == in_ledger()


def test_a_slow_call_that_cannot_ask_redis_is_charged_once_more_rather_than_not(
    organization, api_key, hands, monkeypatch
):
    slow = call(api_key, cost=6)
    look_twice(hands)

    def lose(*args):
        raise Lost("gone")

    with monkeypatch.context() as patch:
        patch.setattr(gate.GIVE_BACK, "run", lose)
        end(slow, after=drift.GRACE)

    assert in_ledger() == 6
    assert UncountedUnits.objects.get().units == 6
    take_up()
    assert admit(api_key.secret, cost=4).used == 10
    assert admit(api_key.secret).reason == "quota_exceeded"


def test_an_event_that_nobody_would_take_for_long_is_charged_when_it_is_stored(organization, api_key, hands):
    decision = call(api_key, cost=6)
    event = make_event(
        organization_id=organization.pk, at=decision.at, units=6, period_start=decision.period_start
    )
    metering.homeless[event.id] = event
    look_twice(hands)
    assert used(organization) == 0

    assert metering.house()

    assert used(organization) == in_ledger() == 6


def test_an_event_of_nobody_keeps_no_other_from_its_home(organization, api_key, hands, redis):
    decision = call(api_key, cost=6)
    told = {"at": decision.at, "units": 6, "period_start": decision.period_start}
    for owner in (uuid4(), organization.pk):
        event = make_event(organization_id=owner, **told)
        metering.homeless[event.id] = event
    look_twice(hands)

    assert metering.house()

    assert used(organization) == in_ledger() == 6
    assert redis.xlen(REFUSED) == 1


def test_a_counter_is_not_compared_while_a_reservation_is_held(organization, api_key, hands):
    decision = admit(api_key.secret, cost=4, hold=Hold.of(endpoint="verify", method=""))
    reservation = Reservation.read(decision.ref, decision.reservation)
    look_twice(hands)
    assert CounterReading.objects.get().note == drift.IS_HELD
    assert used(organization) == 4

    hands.move(max(clock.now(), reservation.due))
    bill_unsettled()
    drain()

    assert drift.measure().compared == 1
    assert used(organization) == in_ledger() == 4


def test_what_a_reservation_gives_back_is_not_taken_off_as_well(organization, api_key, hands):
    serve(api_key, calls=2)
    reservation = reserve(api_key, cost=5)
    call(api_key)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    settle_reservation(reservation, outcome(2))
    drain()
    hands.move(NOON + timedelta(hours=1))
    drift.compare_due()  # Alone: the next look would raise it to the ledger.

    assert used(organization) == in_ledger() == 4


def test_a_lost_reservation_that_is_settled_puts_the_measuring_off(organization, api_key, hands):
    reservation = reserve(api_key, cost=5)
    get_redis().delete(cache.names(organization.ref).used, names(organization.ref, "").held)
    call(api_key)  # Fills a counter that knows nothing of it, and dies.
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    settle_reservation(reservation, outcome(5))
    drain()
    assert used(organization) == 6
    hands.move(NOON + timedelta(hours=1))
    drift.measure()
    assert used(organization) == 6  # Read anew.

    look_twice(hands)

    assert used(organization) == in_ledger() == 5


def test_an_event_that_is_not_late_asks_the_counter_nothing(organization, api_key, hands, monkeypatch):
    monkeypatch.setattr(gate.GIVE_BACK, "run", lambda *args: pytest.fail("a round trip more"))

    end(call(api_key), after=LATE - timedelta(milliseconds=1))

    assert late.LATE * 3 == drift.GRACE
