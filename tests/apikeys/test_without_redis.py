"""Redis stopped, started, emptied: a real one, with the calls going on."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction

from apikeys import cache
from apikeys.gate import admit
from apikeys.models import APIKey, UncountedUnits
from apikeys.secret import new_secret
from apikeys.settlement import settle
from apikeys.tasks import take_up_uncounted
from billing.models import Access
from tests.apikeys.test_gate import set_limits, used
from tests.usage.cast import make_event, serve
from usage import metering, stream
from usage.lines import lines
from usage.models import UsageEvent, UsageRollup
from usage.redis_client import get_redis
from usage.stream import Drain

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_redis")]


def finish(decision, *, units=None, status=200):
    """Do what the middleware does once a call is answered."""
    if status >= 500:
        settle(decision, units=0, event=None)
        return
    units = decision.cost if units is None else units
    event = make_event(
        organization_id=decision.organization_id,
        at=max(decision.at, decision.period_start),
        units=units,
        period_start=decision.period_start,
        api_key_id=decision.api_key_id,
    )
    settle(decision, units=units, event=event if units else None)


def call(api_key, **options):
    decision = admit(api_key.secret, **options)
    if decision.admitted:
        finish(decision)
    return decision


def ledger_units():
    return sum(UsageEvent.objects.values_list("units", flat=True))


def test_with_redis_down_a_known_key_is_let_in_and_its_call_is_in_the_ledger(api_key, own_redis):
    own_redis.stop()

    decision = call(api_key)

    assert (decision.admitted, decision.is_degraded, decision.used) == (True, True, 1)
    assert ledger_units() == UsageRollup.objects.get().units == 1


def test_with_redis_down_an_unknown_key_a_revoked_one_and_one_of_another_organization_stay_out(
    organization, api_key, own_redis
):
    own_redis.stop()
    APIKey.objects.filter(pk=api_key.key.pk).update(revoked_at=api_key.key.created_at)

    assert admit(api_key.secret).reason == "invalid_key"
    assert admit(new_secret(organization.ref)).reason == "invalid_key"
    assert admit("sk_live_nonsense").reason == "invalid_key"


def test_with_redis_down_a_key_s_own_limits_hold_still(organization, api_key, own_redis):
    own_redis.stop()
    key = api_key.key

    def change(**fields):
        APIKey.objects.filter(pk=key.pk).update(**fields)

    change(allowed_networks=["192.0.2.0/24", "2001:db8::/32"])
    assert admit(api_key.secret).reason == "address_not_allowed"
    assert admit(api_key.secret, address="198.51.100.7").reason == "address_not_allowed"
    assert admit(api_key.secret, address="192.0.2.200").admitted
    assert admit(api_key.secret, address="2001:db8::1").admitted
    change(allowed_networks=[], scopes=["forecast:read"])
    assert admit(api_key.secret, scopes=["forecast:write"]).reason == "insufficient_scope"
    assert admit(api_key.secret, scopes=["forecast:read"]).admitted
    change(scopes=[], expires_at=key.created_at - timedelta(days=1))
    assert admit(api_key.secret).reason == "expired_key"


def test_with_redis_down_no_quota_is_passed(organization, api_key, own_redis):
    set_limits_in_postgresql(organization, quota=5)
    own_redis.stop()

    reasons = [call(api_key).reason for _ in range(7)]

    assert reasons == ["admitted"] * 5 + ["quota_exceeded"] * 2
    assert ledger_units() == 5


@pytest.mark.django_db(transaction=True)
def test_with_redis_down_ten_callers_at_once_pass_no_quota(organization, api_key, own_redis):
    set_limits_in_postgresql(organization, quota=7)
    own_redis.stop()

    def call_and_close(_):
        try:
            return call(api_key).admitted
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as callers:
        admitted = sum(callers.map(call_and_close, range(20)))

    assert admitted == ledger_units() == 7


def test_with_redis_down_calls_on_their_way_count_too(organization, api_key, own_redis):
    set_limits_in_postgresql(organization, quota=2)
    own_redis.stop()

    first, second = admit(api_key.secret), admit(api_key.secret)
    assert admit(api_key.secret).reason == "quota_exceeded"

    finish(first, status=503)
    assert admit(api_key.secret).admitted
    finish(second)
    assert ledger_units() == 1


def test_with_redis_down_what_was_reserved_and_not_used_is_free_again(organization, api_key, own_redis):
    set_limits_in_postgresql(organization, quota=10)
    own_redis.stop()

    finish(admit(api_key.secret, cost=8), units=3)

    assert ledger_units() == 3
    assert admit(api_key.secret, cost=7).admitted


def test_with_redis_down_who_has_no_access_is_refused(organization, api_key, own_redis):
    organization.entitlement.access = Access.NONE
    organization.entitlement.save()
    own_redis.stop()

    assert admit(api_key.secret).reason == "suspended"
    assert admit(api_key.secret, cost=0).admitted


def test_with_redis_down_a_test_key_of_who_has_no_access_is_refused(organization, own_redis):
    _, secret = issue_test_key(organization)
    organization.entitlement.access = Access.NONE
    organization.entitlement.save()
    own_redis.stop()

    assert admit(secret).reason == "suspended"
    assert admit(secret, cost=0).admitted


def test_with_redis_down_a_test_key_works_and_is_not_billed(organization, own_redis):
    _, secret = issue_test_key(organization)
    own_redis.stop()

    decision = admit(secret)

    assert (decision.admitted, decision.livemode, decision.is_billable) == (True, False, False)
    assert not UncountedUnits.objects.exists()


def test_with_redis_down_and_the_setting_refuse_nobody_is_let_in(api_key, own_redis, settings):
    settings.GATE_WITHOUT_REDIS = "refuse"
    own_redis.stop()

    assert admit(api_key.secret).reason == "gate_unavailable"


def test_a_period_that_ends_while_redis_is_down_begins_anew(organization, api_key, own_redis):
    set_limits_in_postgresql(organization, quota=1)
    organization.entitlement.plan.quotas.update(included=1)
    own_redis.stop()
    assert call(api_key).admitted
    assert admit(api_key.secret).reason == "quota_exceeded"

    later = admit(api_key.secret, now=organization.entitlement.period_end)

    assert (later.admitted, later.used) == (True, 1)


def test_when_redis_is_back_the_counter_holds_what_was_let_in_without_it(organization, api_key, own_redis):
    call(api_key)
    own_redis.stop()
    for _ in range(3):
        call(api_key)
    own_redis.start()

    assert call(api_key).used == 5
    assert not UncountedUnits.objects.exists()


def test_when_redis_is_back_with_nothing_in_it_the_counter_is_right(organization, api_key, own_redis):
    serve(api_key, calls=2)
    Drain().run_once()
    own_redis.stop()
    for _ in range(3):
        call(api_key)
    own_redis.start()
    get_redis().flushall()

    assert admit(api_key.secret).used == 6


def test_a_call_that_was_on_its_way_while_redis_came_back_counts_once(organization, api_key, own_redis):
    call(api_key)
    own_redis.stop()
    served, failed, less = admit(api_key.secret), admit(api_key.secret), admit(api_key.secret, cost=10)
    own_redis.start()
    assert admit(api_key.secret, cost=0).used == 13

    finish(served)
    finish(failed, status=500)
    finish(less, units=4)

    assert used(organization) == 6
    Drain().run_once()
    assert ledger_units() == 6


def test_a_call_that_fails_gives_nothing_back_to_a_counter_that_began_after_the_one_that_took_it_up(
    organization, api_key, own_redis
):
    own_redis.stop()
    failed, less = admit(api_key.secret, cost=10), admit(api_key.secret, cost=10)
    own_redis.start()
    assert admit(api_key.secret, cost=0).used == 20
    get_redis().flushall()
    call(api_key)
    assert used(organization) == 1

    finish(failed, status=500)
    finish(less, units=4)

    assert used(organization) == 5
    Drain().run_once()
    assert ledger_units() == 5


def test_counters_are_brought_up_to_date_by_schedule_where_this_process_saw_no_outage(
    organization, api_key, own_redis
):
    call(api_key)
    UncountedUnits.objects.create(
        organization=organization,
        meter="requests",
        period_start=organization.entitlement.period_start,
        units=4,
    )

    assert take_up_uncounted() == 1
    assert admit(api_key.secret, cost=0).used == 5
    assert take_up_uncounted() == 0


def test_a_counter_that_is_lost_begins_with_the_ledger_and_what_is_still_on_the_stream(
    organization, api_key, own_redis
):
    serve(api_key, calls=3)
    Drain().run_once()
    serve(api_key, calls=4)
    forget_counters(organization)

    assert admit(api_key.secret).used == 8


def test_a_call_that_failed_gives_nothing_back_to_a_counter_that_began_without_it(organization, api_key):
    failed = admit(api_key.secret, cost=10)
    serve(api_key, calls=8)
    forget_counters(organization)
    assert admit(api_key.secret, cost=0).used == 8

    finish(failed, status=500)

    assert used(organization) == 8


def test_what_is_charged_of_a_reservation_counts_where_the_counter_began_without_it(organization, api_key):
    reserved = admit(api_key.secret, cost=80)
    serve(api_key, calls=8)
    forget_counters(organization)
    assert admit(api_key.secret, cost=0).used == 8

    finish(reserved, units=3)

    assert used(organization) == 11
    Drain().run_once()
    assert ledger_units() == 11


def test_a_counter_that_was_not_lost_takes_units_back_after_its_organization_s_facts_changed(
    organization, api_key
):
    failed = admit(api_key.secret, cost=10)
    cache.drop(organization.ref)
    assert admit(api_key.secret).used == 11

    finish(failed, status=500)

    assert used(organization) == 1


def test_units_are_given_back_to_the_period_that_theirs_was_carried_into(organization, api_key):
    entitlement = organization.entitlement
    failed, late = admit(api_key.secret, cost=10), admit(api_key.secret, cost=10)
    serve(api_key, calls=5)
    for hours in (1, 2):
        entitlement.carried_from = [*entitlement.carried_from, entitlement.period_start.isoformat()]
        entitlement.period_start += timedelta(hours=1)
        entitlement.version += 1
        entitlement.save()
        cache.drop(organization.ref)
        assert admit(api_key.secret, cost=0).used == (25 if hours == 1 else 15)
        finish(failed if hours == 1 else late, status=500)

    assert admit(api_key.secret, cost=0).used == 5


def test_an_event_that_a_drain_has_stored_and_not_acknowledged_counts_once(organization, api_key, own_redis):
    serve(api_key, calls=3)
    drain = Drain()
    # It dies between its commit and its acknowledgement.
    drain.reader.acknowledge = lambda ids: None
    drain.run_once()
    forget_counters(organization)

    assert admit(api_key.secret).used == 4


def test_a_redis_that_lost_its_scripts_is_given_them_again(api_key, own_redis):
    assert admit(api_key.secret).admitted
    get_redis().script_flush()

    assert admit(api_key.secret).admitted


def test_a_restart_of_redis_costs_no_call(organization, api_key, own_redis):
    assert call(api_key).used == 1
    own_redis.stop()
    own_redis.start()

    decision = call(api_key)

    assert (decision.admitted, decision.is_degraded, decision.used) == (True, False, 2)


def test_a_redis_that_takes_no_writes_loses_no_usage(api_key, own_redis):
    decision = admit(api_key.secret)
    get_redis().config_set("maxmemory", "1")

    finish(decision)
    lines.confirm()

    get_redis().config_set("maxmemory", "0")
    assert ledger_units() == 1


def test_a_counter_that_begins_anew_counts_what_this_process_keeps(
    organization, api_key, own_redis, monkeypatch
):
    monkeypatch.setattr(stream, "retry_later", lambda attempt: None)
    call(api_key)
    decision = admit(api_key.secret)
    with transaction.atomic():
        metering.store_directly(
            make_event(organization_id=organization.pk, at=decision.at, period_start=decision.period_start)
        )
    forget_counters(organization)

    assert admit(api_key.secret).used == 3
    assert metering.house()
    assert ledger_units() == 1


def set_limits_in_postgresql(organization, *, quota):
    set_limits(organization, rate=None, quota=quota)


def issue_test_key(organization):
    key, secret = APIKey.objects.issue(organization=organization, name="test")
    APIKey.objects.filter(pk=key.pk).update(mode=APIKey.Mode.TEST)
    return key, secret


def forget_counters(organization):
    names = cache.names(organization.ref)
    get_redis().delete(names.facts, names.used)
