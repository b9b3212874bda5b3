"""Counters that are above or below the ledger, and what brings them in line."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from redis.exceptions import ConnectionError as Lost

from accounts import clock
from apikeys import cache, drift, gate, late, settlement, without_redis
from apikeys.calls import Call, settle
from apikeys.gate import admit
from apikeys.late import LATE
from apikeys.models import CounterReading, UncountedUnits
from apikeys.reservation_settlement import settle as settle_reservation
from apikeys.reservations import Hold, Reservation, names
from apikeys.secret import parse
from apikeys.tasks import bill_unsettled, measure_counters
from apikeys.without_redis import take_up
from billing.models import Entitlement
from tests.apikeys.reserving import outcome
from tests.apikeys.test_gate import set_limits, used
from tests.billing.doctoring import found, only
from tests.usage.cast import make_event
from usage import ledger, metering
from usage.counting import NO_KEY
from usage.models import UsageEvent
from usage.redis_client import get_redis
from usage.stream import Drain

pytestmark = pytest.mark.django_db
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=20, second=0, microsecond=0)


@pytest.fixture
def hands(organization, api_key):
    """A clock that stands at noon, and Acme with 10 calls a month."""
    set_limits(organization, rate=None, quota=10)
    with clock.standing_at(NOON) as hands:
        yield hands


def call(api_key, *, cost=1):
    decision = admit(api_key.secret, cost=cost)
    assert decision.admitted, decision.reason
    return decision


def end(decision, *, units=None, status=200, after=timedelta()):
    served = Call(decision)
    served.units = units
    milliseconds = after // timedelta(milliseconds=1)
    settle(served, status=status, endpoint="/echo", method="GET", response_ms=milliseconds)


def serve(api_key, *, calls):
    for _ in range(calls):
        end(call(api_key))


def reserve(api_key, *, cost):
    decision = admit(api_key.secret, cost=cost, hold=Hold.of(endpoint="verify", method=""))
    return Reservation.read(decision.ref, decision.reservation)


def let_in_by_postgresql(api_key, *, cost, now):
    parsed = parse(api_key.secret)
    return without_redis.decide(parsed, meter="requests", cost=cost, scopes=(), address="", now=now)


def drain():
    while Drain(consumer="drift").run_once():
        pass


def look_twice(hands, *, first=timedelta(seconds=1)):
    """Measure now and after the time that calls may take; return what the second look did."""
    hands.move(clock.now() + first)
    drift.measure()
    drain()
    hands.move(clock.now() + drift.GRACE)
    return drift.measure()


def in_ledger():
    drain()
    return sum(UsageEvent.objects.values_list("units", flat=True))


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
    metering.homeless.append(event)
    look_twice(hands)
    assert used(organization) == 0

    assert metering.house()

    assert used(organization) == in_ledger() == 6


def test_a_counter_is_not_compared_while_the_drain_is_behind(organization, api_key, hands, monkeypatch):
    monkeypatch.setattr(drift, "DRAIN_SECONDS", 0)
    serve(api_key, calls=4)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    hands.move(NOON + timedelta(hours=1))

    assert drift.measure().compared == 0
    assert CounterReading.objects.get().note == drift.IS_BEHIND
    assert used(organization) == 4


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


def test_a_counter_is_not_read_shortly_after_postgresql_s_calls_came_on_it(organization, api_key, hands):
    """The process that let the call in had a clock ten seconds ahead of Redis's."""
    serve(api_key, calls=1)
    end(let_in_by_postgresql(api_key, cost=4, now=NOON + timedelta(seconds=10)))
    take_up()
    serve(api_key, calls=1)
    hands.move(NOON + timedelta(seconds=1))

    assert drift.measure().marked == 0
    look_twice(hands)
    assert used(organization) == in_ledger() == 6


def test_a_counter_that_postgresql_s_calls_came_on_after_it_was_read_is_read_anew(
    organization, api_key, hands
):
    """Again by a clock that differs: Redis had been asked before, and the call is of before that."""
    call(api_key)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    end(let_in_by_postgresql(api_key, cost=4, now=NOON))
    hands.move(NOON + timedelta(hours=1))
    drift.measure()
    assert CounterReading.objects.get().note == drift.IS_UNCOUNTED
    take_up()
    serve(api_key, calls=1)
    drain()

    drift.measure()
    assert used(organization) == 1 + 4 + 1
    look_twice(hands, first=timedelta(hours=1))

    assert used(organization) == in_ledger() == 5


def test_a_counter_below_the_ledger_is_raised_at_the_first_look(organization, api_key, hands):
    serve(api_key, calls=8)
    drain()
    field = cache.counter("requests", organization.entitlement.period_start)
    get_redis().hset(cache.names(organization.ref).used, field, 2)  # As after a loss that nobody noticed.

    hands.move(NOON + timedelta(seconds=1))
    drift.measure()

    assert used(organization) == 8
    look_twice(hands)
    assert used(organization) == 8


def test_what_was_carried_over_from_an_earlier_period_is_mended_too(organization, api_key, hands):
    serve(api_key, calls=2)
    call(api_key)
    first = organization.entitlement.period_start
    second = NOON + timedelta(minutes=1)
    Entitlement.objects.filter(organization=organization).update(
        period_start=second, carried_from=[first.isoformat()]
    )
    cache.drop(organization.ref)
    hands.move(second + timedelta(seconds=1))
    serve(api_key, calls=1)
    assert used(organization) == 4

    look_twice(hands)

    assert used(organization) == in_ledger() == 3


def test_events_without_a_call_stay_counted_whatever_their_time(organization, api_key, hands):
    call(api_key)
    start = organization.entitlement.period_start
    keys, field = cache.names(organization.ref), cache.counter("requests", start)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    for days in (0, 3):
        get_redis().hincrby(keys.used, field, 2)
        get_redis().hincrby(keys.used, f"ingested:{field}", 2)
        at = clock.now() - timedelta(days=days)
        ledger.store(
            [
                make_event(
                    organization_id=organization.pk, at=at, units=2, period_start=start, api_key_id=NO_KEY
                )
            ]
        )
    hands.move(NOON + drift.GRACE + timedelta(minutes=1))

    drift.measure()

    assert used(organization) == in_ledger() == 4


def test_of_events_that_never_came_only_what_cannot_be_under_way_is_taken_off(organization, api_key, hands):
    serve(api_key, calls=1)
    keys, field = (
        cache.names(organization.ref),
        cache.counter("requests", organization.entitlement.period_start),
    )

    def charge(units):
        get_redis().hincrby(keys.used, field, units)
        get_redis().hincrby(keys.used, f"ingested:{field}", units)

    charge(3)  # And died before it committed.
    hands.move(NOON + timedelta(seconds=1))
    drain()
    drift.measure()
    charge(2)  # To be committed in a moment.
    hands.move(NOON + timedelta(hours=1))
    drift.measure()

    assert used(organization) == 1 + 2


def test_a_counter_that_agrees_with_the_ledger_is_not_measured(organization, api_key, hands):
    serve(api_key, calls=3)
    drain()

    assert drift.measure().marked == 0
    assert not CounterReading.objects.exists()


def test_organizations_are_looked_at_in_slices_and_each_in_its_turn(organization, api_key, outsider, hands):
    call(api_key)

    marked = [drift.measure(limit=1).marked for _ in range(2)]

    assert sum(marked) == 1
    assert get_redis().get(drift.CURSOR)


def test_a_test_key_s_counter_is_left_alone(organization, api_key, hands):
    api_key.key.__class__.objects.update(mode="test")
    cache.drop(organization.ref)
    call(api_key)

    assert look_twice(hands).compared == 0


def test_the_task_tells_how_many_counters_it_mended(organization, api_key, hands):
    call(api_key)
    assert measure_counters() == 0
    hands.move(NOON + drift.GRACE)

    assert measure_counters() == 1


def test_the_doctor_names_a_counter_that_could_not_be_mended_for_hours(
    organization, api_key, hands, monkeypatch
):
    monkeypatch.setattr(drift, "DRAIN_SECONDS", 0)
    serve(api_key, calls=4)
    drift.measure()
    hands.move(NOON + timedelta(hours=1))
    drift.measure()
    assert found("counter-drift") == []

    hands.move(NOON + timedelta(hours=7))

    finding = only("counter-drift")
    assert "4 units above the ledger" in finding.sentence
    assert drift.IS_BEHIND in finding.sentence
    drain()
    drift.measure()
    assert found("counter-drift") == []


def test_an_event_that_is_not_late_asks_the_counter_nothing(organization, api_key, hands, monkeypatch):
    monkeypatch.setattr(gate.GIVE_BACK, "run", lambda *args: pytest.fail("a round trip more"))

    end(call(api_key), after=LATE - timedelta(milliseconds=1))

    assert late.LATE * 3 == drift.GRACE


def test_staff_see_what_was_measured(admin_client, organization, api_key, hands):
    call(api_key)
    look_twice(hands)

    page = admin_client.get("/admin/apikeys/counterreading/").content.decode()

    assert organization.name in page
