"""Counters that are above or below the ledger, and what brings them in line."""

from datetime import timedelta

import pytest

from accounts import clock
from apikeys import cache, drift
from apikeys.models import CounterReading
from apikeys.tasks import measure_counters
from apikeys.without_redis import take_up
from billing.models import Entitlement
from tests.apikeys.drifting import NOON, call, drain, end, in_ledger, let_in_by_postgresql, look_twice, serve
from tests.apikeys.test_gate import set_limits, used
from tests.billing.doctoring import found, only
from tests.usage.cast import make_event
from usage import ledger
from usage.counting import NO_KEY
from usage.redis_client import get_redis

pytestmark = pytest.mark.django_db


@pytest.fixture
def hands(organization, api_key):
    """A clock that stands at noon, and Acme with 10 calls a month."""
    set_limits(organization, rate=None, quota=10)
    with clock.standing_at(NOON) as hands:
        yield hands


def test_a_counter_is_not_compared_while_the_drain_is_behind(organization, api_key, hands, monkeypatch):
    monkeypatch.setattr(drift, "DRAIN_SECONDS", 0)
    serve(api_key, calls=4)
    hands.move(NOON + timedelta(seconds=1))
    drift.measure()
    hands.move(NOON + timedelta(hours=1))

    assert drift.measure().compared == 0
    assert CounterReading.objects.get().note == drift.IS_BEHIND
    assert used(organization) == 4


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


def test_staff_see_what_was_measured(admin_client, organization, api_key, hands):
    call(api_key)
    look_twice(hands)

    page = admin_client.get("/admin/apikeys/counterreading/").content.decode()

    assert organization.name in page
