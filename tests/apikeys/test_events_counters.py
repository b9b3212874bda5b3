"""The quota's counter learns of ingested usage, whatever becomes of Redis meanwhile."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from redis.exceptions import TimeoutError as Lost

from accounts import clock
from apikeys import cache
from apikeys.gate import admit
from apikeys.ingest import COUNT
from apikeys.models import UncountedUnits
from apikeys.refusals import refusal
from billing.models import Entitlement
from tests.apikeys.test_gate import set_limits, used
from tests.usage.ingesting import event, sell, send, statuses
from usage.models import UsageRollup
from usage.outage import outage

pytestmark = pytest.mark.django_db


def take(organization, id="1", value=10, **fields):
    assert statuses(send(event(organization, id, value=value, **fields))) == ["accepted"]


def call(api_key):
    return admit(api_key.secret)


def carry(organization):
    """End the period now, as a change to a yearly fee does: what was used stays used."""
    with transaction.atomic():
        entitlement = Entitlement.objects.get(organization=organization)
        entitlement.carried_from = [*entitlement.carried_from, entitlement.period_start.isoformat()]
        entitlement.period_start = clock.now()
        entitlement.version += 1
        entitlement.save()
        cache.drop(organization.ref)


def test_a_counter_that_is_there_is_raised(organization, api_key):
    call(api_key)

    take(organization)

    assert used(organization) == 11
    assert call(api_key).used == 12


def test_a_counter_that_is_not_there_begins_with_what_was_ingested(organization, api_key, redis):
    take(organization)
    assert redis.hgetall(cache.names(organization.ref).used) == {}

    assert call(api_key).used == 11


def test_an_event_that_is_sent_again_raises_no_counter(organization, api_key):
    call(api_key)
    take(organization)

    send(event(organization, value=10))

    assert used(organization) == 11


def test_what_was_used_counts_also_beyond_a_hard_quota_and_then_the_gate_refuses(organization, api_key):
    call(api_key)

    take(organization, value=500)

    assert call(api_key).reason == "quota_exceeded"
    assert UsageRollup.objects.units() == 500


def test_units_of_a_carried_period_count_in_the_one_that_it_was_carried_into(organization, api_key):
    began = clock.now()
    call(api_key)
    carry(organization)
    call(api_key)
    assert used(organization) == 2

    take(organization, time=began)

    assert used(organization) == 12


def test_they_do_so_where_the_earlier_counter_is_gone(organization, api_key, redis):
    began = clock.now()
    call(api_key)
    first = Entitlement.objects.get(organization=organization).period_start
    carry(organization)
    call(api_key)
    redis.hdel(cache.names(organization.ref).used, cache.counter("requests", first))

    take(organization, time=began)

    assert used(organization) == 12


def test_two_meters_and_two_organizations_in_a_batch_each_have_their_counter(organization, api_key, outsider):
    sell(organization, "tokens", included=1000)
    rival = outsider.memberships.get().organization
    call(api_key)

    send(
        event(organization, "1", value=3),
        event(organization, "2", value=40, meter="tokens"),
        event(rival, "3", value=7),
        event(organization, "4", value=5),
    )

    assert used(organization) == 9
    assert admit(api_key.secret, meter="tokens").used == 41


def test_a_batch_that_is_not_committed_leaves_no_counter_too_low(organization, api_key):
    """Dead between Redis and the commit: calls are refused too early, never too late."""
    call(api_key)

    with transaction.atomic():
        send(event(organization, value=10))
        transaction.set_rollback(True)

    assert used(organization) == 11
    assert UsageRollup.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_ingesting_and_counters_that_begin_at_once_count_each_unit_once(organization, api_key, redis):
    set_limits(organization, quota=None, rate=None)

    def act(number):
        try:
            if number % 3 == 0:
                redis.hdel(cache.names(organization.ref).used, cache.counter("requests", start))
                cache.fill(organization.ref, now=clock.now())
                return 0
            send(event(organization, str(number), value=10))
            return 10
        finally:
            connection.close()

    start = Entitlement.objects.get(organization=organization).period_start
    call(api_key)
    with ThreadPoolExecutor(4) as workers:
        sent = sum(workers.map(act, range(60)))
    cache.drop(organization.ref)

    assert admit(api_key.secret, cost=0).used == sent == 400


class TestWithRedisOutOfReach:
    @pytest.fixture(autouse=True)
    def redis_of_its_own(self, own_redis):
        self.redis = own_redis

    def test_events_are_taken_and_the_counter_learns_of_them_when_redis_is_back(self, organization, api_key):
        call(api_key)
        self.redis.stop()
        take(organization)
        assert UncountedUnits.objects.get().is_stored
        self.redis.start()

        assert call(api_key).used == 12
        assert not UncountedUnits.objects.exists()

    def test_a_counter_that_was_lost_meanwhile_counts_them_once(self, organization, api_key):
        self.redis.stop()
        take(organization)
        self.redis.start()

        assert call(api_key).used == 11

    def test_the_next_events_bring_the_counters_up_to_date(self, organization, api_key):
        call(api_key)
        self.redis.stop()
        take(organization)
        self.redis.start()
        take(organization, "2", value=5)

        assert not outage.was_seen
        assert call(api_key).used == 17

    def test_a_process_that_saw_no_outage_learns_of_it_by_its_new_connection(self, organization, api_key):
        call(api_key)
        self.redis.stop()
        take(organization)
        self.redis.start()
        outage.end()

        assert call(api_key).used == 12

    def test_calls_that_postgresql_lets_in_meanwhile_count_them(self, organization, api_key):
        self.redis.stop()
        take(organization, value=99)

        assert [call(api_key).reason for _ in range(2)] == ["admitted", "quota_exceeded"]

    def test_units_of_a_carried_period_reach_the_counter_that_is_there(self, organization, api_key):
        began = clock.now()
        call(api_key)
        carry(organization)
        call(api_key)
        self.redis.stop()
        take(organization, time=began)
        self.redis.start()

        assert call(api_key).used == 13

    def test_units_of_a_period_that_was_carried_on_meanwhile_are_in_the_counter_that_begins(
        self, organization, api_key
    ):
        began = clock.now()
        call(api_key)
        self.redis.stop()
        take(organization, time=began)
        self.redis.start()
        carry(organization)

        # The call was charged, and is not on the stream: its unit is in the first counter alone.
        assert call(api_key).used == 12

    def test_an_answer_that_got_lost_counts_too_much_rather_than_too_little(
        self, organization, api_key, monkeypatch
    ):
        call(api_key)
        monkeypatch.setattr("apikeys.ingest.COUNT.run", lose_the_answer)
        take(organization)
        monkeypatch.undo()

        assert call(api_key).used == 22


run = COUNT.run


def lose_the_answer(keys, args):
    run(keys, args)
    raise Lost("No answer came.")


class TestMetersThatOnlyEventsCount:
    @pytest.fixture
    def seats(self, organization):
        return sell(organization, "seats", "max", included=10)

    def test_no_call_is_charged_to_one(self, organization, api_key, seats):
        decision = admit(api_key.secret, meter="seats")

        assert decision.reason == "not_in_plan"
        assert Entitlement.objects.get(organization=organization).quotas["seats"]["included"] == 10

    def test_a_view_that_names_one_is_told_so(self, api_key, seats):
        detail = str(refusal(admit(api_key.secret, meter="seats")).detail)

        assert detail.endswith("its units are the largest value of a period, which only events tell.")

    def test_nor_is_it_without_redis(self, organization, api_key, seats, own_redis):
        own_redis.stop()

        assert admit(api_key.secret, meter="seats").reason == "not_in_plan"
        assert admit(api_key.secret).admitted

    def test_a_count_can_be_charged(self, organization, api_key):
        sell(organization, "jobs", "count", included=10)

        assert admit(api_key.secret, meter="jobs").admitted

    def test_its_counter_is_kept_beside_the_others(self, organization, api_key, seats, redis):
        call(api_key)
        take(organization, meter="seats", value=4)
        take(organization, "2", meter="seats", value=6)

        start = Entitlement.objects.get(organization=organization).period_start
        assert redis.hget(cache.names(organization.ref).used, cache.counter("seats", start)) == "6"
