"""What a change of plan does to the allowance: used units stay used, and the new quota applies at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from django.db import connection

from accounts import clock
from apikeys.gate import admit
from billing.errors import PaymentDeclined
from billing.models import Plan, PlanQuota
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_now
from tests.billing.acme import CHALLENGES, FAILS
from tests.usage.cast import make_event
from usage.metering import record

pytestmark = pytest.mark.django_db
MAY = datetime(2026, 5, 1, tzinfo=UTC)


def call(api_key, *, units=1):
    """Make a call as the API does: through the gate, and into the stream where it was let in."""
    decision = admit(api_key.secret, cost=units)
    if decision.admitted:
        record(
            make_event(
                organization_id=decision.organization_id,
                at=decision.at,
                units=decision.cost,
                period_start=decision.period_start,
                api_key_id=decision.api_key_id,
            )
        )
    return decision


@pytest.fixture
def caller(acme, api_key, plans):
    """Acme on Pro with 4,000 of its 10,000 units used on the 11th."""
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    assert call(api_key, units=4000).used == 4000
    return acme


def shown(browser):
    """Return the units that the dashboard shows, and those of the usage page's days."""
    (meter,) = browser.get("/dashboard/").context["meters"]
    return meter.used, browser.get("/dashboard/usage/").context["overview"].totals.units


def test_within_the_same_month_the_count_goes_on_under_the_new_quota(caller, api_key, plans):
    before = call(api_key)
    change_plan(caller.organization, plan=plans.team)

    after = call(api_key)

    assert (before.used, before.quota, before.rate_limit) == (4001, 10_000, 100)
    assert (after.used, after.quota, after.rate_limit) == (4002, 100_000, 500)
    assert (after.period_start, after.period_end) == (before.period_start, before.period_end)


def test_whoever_had_used_all_can_go_on_at_the_next_call(caller, api_key, plans):
    call(api_key, units=6000)
    assert call(api_key).reason == "quota_exceeded"

    change_plan(caller.organization, plan=plans.team)

    assert (call(api_key).reason, call(api_key).used) == ("admitted", 10_002)


def test_a_year_that_begins_in_mid_month_does_not_give_the_month_anew(caller, api_key, plans):
    change_plan(caller.organization, plan=plans.pro, interval="year")

    after = call(api_key)

    assert (after.used, after.quota) == (4001, 10_000)
    assert (after.period_start, after.period_end) == (clock.now(), datetime(2026, 5, 11, tzinfo=UTC))
    assert call(api_key, units=6000).reason == "quota_exceeded"


def test_with_the_counters_lost_what_was_used_before_the_change_is_found_again(
    caller, api_key, plans, drain, redis
):
    change_plan(caller.organization, plan=plans.pro, interval="year")
    call(api_key)
    while drain.run_once():
        pass
    redis.flushdb()

    assert call(api_key).used == 4002


def test_changes_within_one_month_add_up(caller, api_key, plans):
    change_plan(caller.organization, plan=plans.pro, interval="year")
    call(api_key, units=100)
    caller.wait(days=2)
    change_plan(caller.organization, plan=plans.team, interval="year")

    after = call(api_key)

    assert (after.used, after.quota) == (4101, 100_000)
    assert after.period_end == datetime(2026, 5, 11, tzinfo=UTC)


def test_the_month_after_begins_at_nothing(caller, api_key, plans):
    change_plan(caller.organization, plan=plans.pro, interval="year")
    caller.wait(days=30)
    caller.see()

    assert call(api_key).used == 1


def test_pages_count_as_the_gate_does(caller, api_key, plans, browser, drain):
    change_plan(caller.organization, plan=plans.pro, interval="year")
    call(api_key, units=5)
    while drain.run_once():
        pass

    assert shown(browser) == (4005, 4005)


def test_a_switch_in_a_trial_does_not_give_the_month_anew(acme, api_key, plans):
    acme.subscribe(plans.pro, interval="year", trial_period_days=20)
    acme.wait(days=3)
    call(api_key, units=4000)

    change_plan(acme.organization, plan=plans.team, interval="year")
    acme.wait(days=1)

    assert call(api_key).used == 4001


def test_the_paid_month_after_a_trial_is_a_new_one(acme, api_key, plans):
    acme.subscribe(plans.pro, trial_period_days=14)
    call(api_key, units=4000)
    acme.wait(days=14)
    acme.see()

    assert call(api_key).used == 1


def test_an_upgrade_that_is_not_paid_yet_allows_nothing(caller, api_key, plans):
    caller.pay_with(CHALLENGES)
    url = change_plan(caller.organization, plan=plans.team).payment_url
    call(api_key, units=6000)

    assert call(api_key).reason == "quota_exceeded"

    caller.confirm(url)
    caller.see()
    assert (call(api_key).used, call(api_key).quota) == (10_001, 100_000)


def test_a_declined_upgrade_allows_nothing(caller, api_key, plans):
    call(api_key, units=6000)
    caller.pay_with(FAILS)

    with pytest.raises(PaymentDeclined):
        change_plan(caller.organization, plan=plans.team)

    assert call(api_key).reason == "quota_exceeded"


def test_a_downgrade_leaves_the_month_as_it_was_paid_for(acme, api_key, plans):
    acme.subscribe(plans.team)
    acme.wait(days=10)
    call(api_key, units=60_000)
    change_plan(acme.organization, plan=plans.pro)

    assert (call(api_key).quota, call(api_key).used) == (100_000, 60_002)

    acme.wait_until(MAY)
    acme.see()
    assert (call(api_key).quota, call(api_key).used) == (10_000, 2)


def test_after_the_end_the_free_quota_begins_at_nothing(caller, api_key, plans):
    cancel_now(caller.organization)

    after = call(api_key)

    assert (after.used, after.quota, after.rate_limit) == (1, 100, 10)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("interval", ["month", "year"])
def test_ten_callers_at_once_use_no_more_than_the_new_quota_across_the_change(acme, api_key, plans, interval):
    Plan.objects.update(rate_per_minute=None)
    PlanQuota.objects.filter(plan=plans.pro).update(included=60)
    PlanQuota.objects.filter(plan=plans.team).update(included=140)
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    changed = threading.Event()

    def call_and_call() -> int:
        admitted = 0
        try:
            while not changed.is_set():
                admitted += call(api_key).admitted
            for _ in range(40):
                admitted += call(api_key).admitted
        finally:
            connection.close()
        return admitted

    with ThreadPoolExecutor(10) as pool:
        callers = [pool.submit(call_and_call) for _ in range(10)]
        change_plan(acme.organization, plan=plans.team, interval=interval)
        changed.set()
        admitted = sum(each.result() for each in callers)

    assert admitted == 140
    assert call(api_key).reason == "quota_exceeded"
