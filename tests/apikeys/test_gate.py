from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, transaction
from redis.exceptions import ConnectionError as Unreachable

from accounts.models import Organization
from apikeys import cache
from apikeys.decision import Verdict
from apikeys.gate import admit, give_back
from apikeys.models import APIKey
from apikeys.secret import new_secret
from billing.models import Entitlement, PlanQuota
from tests.usage.cast import serve
from usage.redis_client import get_redis

pytestmark = pytest.mark.django_db
NOON = datetime.now(UTC).replace(day=15, hour=12, minute=0, second=0, microsecond=0)


def set_limits(organization: Organization, *, rate: int | None, quota: int | None) -> None:
    """Give the organization's plan other limits, as staff would."""
    entitlement = organization.entitlement
    entitlement.rate_per_minute = rate
    entitlement.quotas = {"requests": {"included": quota, "overage": "block"}}
    entitlement.save()
    cache.drop(organization.ref)


def used(organization: Organization) -> int:
    period_start = Entitlement.objects.get(organization=organization).period_start
    return int(
        get_redis().hget(cache.names(organization.ref).used, cache.counter("requests", period_start)) or 0
    )


def test_a_free_customer_is_admitted_ten_times_a_minute(organization, api_key):
    decisions = [admit(api_key.secret) for _ in range(11)]

    assert [d.admitted for d in decisions] == [True] * 10 + [False]
    assert decisions[-1].reason == "rate_limited"
    assert [d.rate_remaining for d in decisions] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


def test_a_slow_eleventh_call_within_the_minute_is_refused_too(organization, api_key):
    for second in range(10):
        assert admit(api_key.secret, now=NOON + timedelta(seconds=5 * second)).admitted

    refused = admit(api_key.secret, now=NOON + timedelta(seconds=59.9))

    assert refused.reason == "rate_limited"
    assert refused.wait == timedelta(seconds=0.1)


def test_who_waits_as_told_is_admitted_and_not_a_moment_earlier(organization, api_key):
    for _ in range(10):
        admit(api_key.secret, now=NOON)
    refused = admit(api_key.secret, now=NOON + timedelta(seconds=10))

    assert not admit(
        api_key.secret, now=NOON + timedelta(seconds=10) + refused.wait - timedelta(microseconds=1)
    ).admitted
    assert admit(api_key.secret, now=NOON + timedelta(seconds=10) + refused.wait).admitted


def test_a_refusal_charges_nothing(organization, api_key):
    set_limits(organization, rate=None, quota=3)
    for _ in range(3):
        assert admit(api_key.secret).admitted

    assert admit(api_key.secret).reason == "quota_exceeded"
    assert used(organization) == 3


def test_a_refusal_by_the_rate_charges_no_quota(organization, api_key):
    for _ in range(15):
        admit(api_key.secret)

    assert used(organization) == 10


def test_a_refusal_by_the_quota_takes_no_place_in_the_minute(organization, api_key):
    set_limits(organization, rate=10, quota=2)
    decisions = [admit(api_key.secret) for _ in range(5)]

    assert [d.reason for d in decisions] == ["admitted"] * 2 + ["quota_exceeded"] * 3
    assert {d.rate_remaining for d in decisions[2:]} == {8}


def test_a_call_that_costs_more_than_is_left_is_refused_whole(organization, api_key):
    set_limits(organization, rate=None, quota=10)
    assert admit(api_key.secret, cost=7).admitted

    assert admit(api_key.secret, cost=4).reason == "quota_exceeded"
    assert admit(api_key.secret, cost=3).admitted
    assert used(organization) == 10


def test_an_unlimited_plan_has_neither_rate_nor_quota(organization, api_key):
    set_limits(organization, rate=None, quota=None)

    decisions = [admit(api_key.secret) for _ in range(600)]

    assert all(d.admitted for d in decisions)
    assert (decisions[-1].rate_limit, decisions[-1].quota, decisions[-1].used) == (None, None, 600)


def test_an_invented_key_with_a_right_checksum_is_refused(organization, api_key):
    assert admit(new_secret(organization.ref)).reason == "invalid_key"
    assert admit(new_secret("zzzzzzzzzz")).reason == "invalid_key"


def test_a_garbled_key_is_refused_without_any_look_up(
    organization, api_key, django_assert_num_queries, counted_redis
):
    before = counted_redis.info("commandstats")

    with django_assert_num_queries(0):
        assert admit(api_key.secret[:-1] + "_").reason == "invalid_key"

    assert set(counted_redis.info("commandstats")) - set(before) <= {"cmdstat_info"}


def test_an_unknown_organization_is_looked_up_once_not_at_every_try(plans, django_assert_num_queries):
    secrets = [new_secret("zzzzzzzzzz") for _ in range(5)]
    admit(secrets[0])

    with django_assert_num_queries(0):
        assert not any(admit(secret).admitted for secret in secrets)


def test_a_warm_gate_asks_postgresql_nothing(organization, api_key, django_assert_num_queries):
    admit(api_key.secret)

    with django_assert_num_queries(0):
        assert admit(api_key.secret).admitted


def test_a_revoked_key_is_refused_at_the_next_call(organization, api_key):
    assert admit(api_key.secret).admitted

    api_key.key.revoke()

    assert admit(api_key.secret).reason == "invalid_key"


def test_a_key_made_while_the_gate_is_warm_is_admitted_at_once(organization, api_key):
    admit(api_key.secret)
    _, second = APIKey.objects.issue(organization=organization, name="second")

    assert admit(second).admitted


def test_two_keys_of_one_organization_share_rate_and_quota(organization, api_key):
    _, second = APIKey.objects.issue(organization=organization, name="second")
    for secret in [api_key.secret, second] * 5:
        assert admit(secret).admitted

    assert admit(second).reason == "rate_limited"
    assert used(organization) == 10


def test_one_organization_does_not_use_up_another_s_limits(organization, api_key, outsider):
    rival = Organization.objects.get(name="Rival")
    _, secret = APIKey.objects.issue(organization=rival, name="rival")
    for _ in range(11):
        admit(api_key.secret)

    assert admit(secret).rate_remaining == 9


def test_a_key_that_could_not_be_dropped_from_the_gate_is_not_revoked(organization, api_key, monkeypatch):
    def fail(ref: str) -> None:
        raise Unreachable

    monkeypatch.setattr("apikeys.receivers.cache.drop", fail)
    with pytest.raises(Unreachable):
        api_key.key.revoke()

    assert APIKey.objects.get().is_active


def test_a_new_period_starts_with_a_full_quota(organization, api_key):
    set_limits(organization, rate=None, quota=2)
    admit(api_key.secret, cost=2)
    assert admit(api_key.secret).reason == "quota_exceeded"
    end = organization.entitlement.period_end

    # The plan's own limits are back with the refresh that the new period brings.
    decision = admit(api_key.secret, now=end)

    assert (decision.admitted, decision.used, decision.period_start) == (True, 1, end)


def test_the_last_microsecond_of_a_period_still_belongs_to_it(organization, api_key):
    start, end = organization.entitlement.period_start, organization.entitlement.period_end

    assert admit(api_key.secret, now=end - timedelta(microseconds=1)).period_start == start
    assert admit(api_key.secret, now=end).period_start == end


def test_an_emptied_redis_starts_from_what_the_ledger_has(organization, api_key, drain, redis):
    set_limits(organization, rate=None, quota=100)
    serve(api_key, calls=40)
    drain.run_once()
    redis.flushdb()

    assert admit(api_key.secret).used == 41


def test_a_meter_that_the_plan_lacks_is_refused(organization, api_key):
    assert admit(api_key.secret, meter="gigabytes").reason == "not_in_plan"


def test_what_costs_nothing_is_let_in_without_a_quota_for_its_meter(organization, api_key):
    decision = admit(api_key.secret, meter="gigabytes", cost=0)

    assert (decision.admitted, decision.quota, decision.used) == (True, None, 0)


def test_what_costs_nothing_is_let_in_where_more_is_used_than_included(organization, api_key):
    set_limits(organization, rate=None, quota=100)
    admit(api_key.secret, cost=100)
    set_limits(organization, rate=None, quota=50)

    assert admit(api_key.secret).reason == "quota_exceeded"
    assert admit(api_key.secret, cost=0).admitted


def test_units_given_back_can_be_used_again(organization, api_key):
    set_limits(organization, rate=None, quota=1)
    failed = admit(api_key.secret)
    give_back(failed)

    assert used(organization) == 0
    assert admit(api_key.secret).admitted


def test_units_are_given_back_to_the_period_they_were_charged_to(organization, api_key):
    late = admit(api_key.secret)
    fresh = admit(api_key.secret, now=organization.entitlement.period_end)

    give_back(late)

    assert admit(api_key.secret, now=fresh.at).used == 2


def test_a_smaller_plan_counts_the_calls_of_the_minute_before(organization, api_key):
    set_limits(organization, rate=100, quota=None)
    for second in range(50):
        admit(api_key.secret, now=NOON + timedelta(seconds=second))
    set_limits(organization, rate=10, quota=None)

    refused = admit(api_key.secret, now=NOON + timedelta(seconds=50))

    # Room comes when only nine of the fifty are left: the one at second 40 must have gone.
    assert refused.wait == timedelta(seconds=50)
    assert admit(api_key.secret, now=NOON + timedelta(seconds=100)).admitted


@pytest.mark.parametrize("left", [0, 1, 17])
def test_callers_at_once_get_exactly_what_is_left(organization, api_key, left):
    set_limits(organization, rate=None, quota=100)
    if left < 100:
        admit(api_key.secret, cost=100 - left)

    with ThreadPoolExecutor(32) as callers:
        admitted = sum(d.admitted for d in callers.map(lambda _: admit(api_key.secret), range(200)))

    assert admitted == left
    assert used(organization) == 100


def test_limits_in_the_plan_are_what_the_gate_enforces(plans, organization):
    """The tiers as sold: 10, 100, 500 and unlimited a minute; 100, 10,000, 100,000 and unlimited a month."""
    tiers = {
        quota.plan.slug: (quota.plan.rate_per_minute, quota.included)
        for quota in PlanQuota.objects.select_related("plan")
    }

    assert tiers == {
        "free": (10, 100),
        "pro": (100, 10_000),
        "team": (500, 100_000),
        "enterprise": (None, None),
    }


def test_the_gate_says_when_postgresql_is_out_of_reach(organization, api_key, monkeypatch):
    def fail(ref: str, *, now: datetime) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(cache, "fill", fail)

    assert admit(api_key.secret).reason == "gate_unavailable"


def test_a_copy_whose_lock_was_lost_is_dropped(organization, api_key, monkeypatch, redis):
    real = cache.copy

    def copy_and_lose_the_connection(organization: Organization, *, now: datetime) -> None:
        real(organization, now=now)
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(cache, "copy", copy_and_lose_the_connection)

    assert admit(api_key.secret).reason == "gate_unavailable"
    assert not redis.exists(cache.names(organization.ref).facts)


def test_the_minute_is_kept_for_as_long_as_a_call_of_it_counts(organization, api_key, redis):
    set_limits(organization, rate=100, quota=None)
    window = cache.names(organization.ref).window
    for minute in range(3):
        admit(api_key.secret, now=NOON + timedelta(minutes=minute))
        admit(api_key.secret, now=NOON + timedelta(minutes=minute, seconds=30))
        assert redis.pttl(window) > 4 * 60_000
        redis.pexpire(window, 90_000)  # Time goes by.

    admit(api_key.secret, now=NOON + timedelta(minutes=3))

    assert redis.pttl(window) > 4 * 60_000


def test_a_large_quota_that_is_hardly_touched_runs_out_at_no_time_worth_telling(organization, api_key):
    set_limits(organization, rate=None, quota=10**15)

    assert admit(api_key.secret).runs_out_at is None


def test_what_redis_does_not_know_of_waits_for_a_postgresql_that_only_reads(api_key):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL transaction_read_only = on")
        assert admit(api_key.secret).verdict == Verdict.UNAVAILABLE
        transaction.set_rollback(True)
    assert admit(api_key.secret).admitted
