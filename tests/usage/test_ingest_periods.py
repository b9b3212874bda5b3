"""An event belongs to the quota period that its own time lies in, and to that period's invoice."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from redis.exceptions import ConnectionError as Unreachable

from accounts import clock
from billing.entitlements import lock_entitlements, refresh_entitlement
from billing.models import Entitlement
from billing.periods import calendar_month
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_now
from tests.billing.acme import START
from tests.usage.ingesting import event, send, statuses
from usage.models import DroppedMonth, UsageEvent, UsageRollup
from usage.partitions import existing_months, partition_name
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
MAY = datetime(2026, 5, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def on_pro(acme, plans):
    """Acme on a Pro of 100 units, from 1 April; what goes beyond costs 10 cents a unit."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.subscribe(plans.pro)
    return acme


def take(acme, id="1", **fields):
    return statuses(send(event(acme.organization, id, **fields)))[0]


def period_starts():
    return list(UsageEvent.objects.order_by("occurred_at").values_list("period_start", flat=True))


def test_the_last_second_of_a_month_is_that_month_s_also_when_it_is_told_in_the_next(on_pro):
    """Complaint 7 of the field notes: it is on the invoice of the month it was used in."""
    on_pro.wait_until(MAY)
    on_pro.see()
    on_pro.wait(minutes=20)

    assert take(on_pro, time=MAY - SECOND, value=130) == "accepted"
    assert take(on_pro, "2", time=MAY, value=7) == "accepted"
    report_usage()
    on_pro.wait(hours=2)

    assert period_starts() == [START, MAY]
    assert on_pro.last_invoice().amount_paid == 2900 + 30 * 10
    assert on_pro.invoiced_units() == 130


def test_what_comes_later_than_half_an_hour_after_the_end_is_too_old(on_pro):
    on_pro.wait_until(MAY + timedelta(minutes=30) - SECOND)
    on_pro.see()
    assert take(on_pro, "in time", time=MAY - SECOND) == "accepted"

    on_pro.wait(seconds=1)
    assert take(on_pro, "too late", time=MAY - SECOND) == "too_old"
    assert take(on_pro, "in time", time=MAY - SECOND) == "duplicate"


def test_the_entitlement_moves_on_by_itself_where_nobody_has_done_so(on_pro):
    on_pro.wait_until(MAY + timedelta(minutes=5))
    assert Entitlement.objects.get().period_start == START

    assert take(on_pro, "old", time=MAY - SECOND) == "accepted"
    assert take(on_pro, "new", time=MAY) == "accepted"
    assert period_starts() == [START, MAY]


def test_an_event_of_a_period_that_has_not_begun_waits_for_it(on_pro):
    on_pro.wait_until(MAY - timedelta(minutes=2))
    refusal = send(event(on_pro.organization, time=MAY + timedelta(minutes=1)))[0]
    assert (refusal.code, "not begun" in refusal.detail) == ("in_future", True)

    on_pro.wait(minutes=2)
    assert take(on_pro, time=MAY + timedelta(minutes=1)) == "accepted"


def test_backdated_within_the_period_it_counts_in_its_own_hour(on_pro):
    on_pro.wait(days=20)

    assert take(on_pro, time=START, value=5) == "accepted"
    assert take(on_pro, "2", time=START - SECOND, value=5) == "too_old"
    assert UsageRollup.objects.get().hour == START


def test_after_a_change_that_begins_the_month_anew_the_part_before_is_open_still(on_pro, plans):
    on_pro.wait(days=10)
    take(on_pro, value=60)
    change_plan(on_pro.organization, plan=plans.pro, interval="year")
    on_pro.see()
    on_pro.wait(days=5)

    changed = START + timedelta(days=10)
    assert take(on_pro, "before", time=changed - SECOND, value=7) == "accepted"
    assert take(on_pro, "after", time=changed + SECOND, value=9) == "accepted"
    assert Entitlement.objects.get().carried_from == [START.isoformat()]
    units = {each.units: each.period_start for each in UsageEvent.objects.all()}
    assert (units[7], units[9]) == (START, changed)


def test_what_a_trial_s_last_minutes_used_is_the_trial_s(acme, plans):
    acme.subscribe(plans.pro, trial_period_days=10)
    ends = START + timedelta(days=10)
    acme.wait_until(ends + timedelta(minutes=10))
    acme.see()
    assert acme.entitlement().period_start == ends

    assert take(acme, time=ends - SECOND) == "accepted"
    assert take(acme, "2", time=ends) == "accepted"
    assert period_starts() == [START, ends]


def test_what_was_used_on_free_just_before_subscribing_stays_there(acme, plans):
    acme.wait(days=3)
    began = START + timedelta(days=3)
    acme.subscribe(plans.pro)
    acme.wait(minutes=10)

    assert take(acme, time=began - SECOND) == "accepted"
    assert take(acme, "2", time=began + SECOND) == "accepted"
    assert period_starts() == [START, began]


def test_what_was_used_just_before_a_cancellation_is_of_the_paid_period(on_pro):
    on_pro.wait(days=10)
    ended = START + timedelta(days=10)
    cancel_now(on_pro.organization)
    on_pro.wait(minutes=10)

    assert take(on_pro, time=ended - SECOND) == "accepted"
    assert take(on_pro, "2") == "accepted"
    assert period_starts() == [START, ended]


def test_the_end_of_a_period_that_was_carried_on_is_the_end_of_all_of_it(on_pro, plans):
    on_pro.wait(days=10)
    change_plan(on_pro.organization, plan=plans.pro, interval="year")
    on_pro.see()
    changed, ends = START + timedelta(days=10), on_pro.entitlement().period_end
    on_pro.wait_until(ends + timedelta(minutes=10))
    refresh_entitlement(on_pro.organization)

    assert take(on_pro, time=ends - SECOND) == "accepted"
    assert take(on_pro, "2", time=changed - SECOND) == "accepted"
    assert take(on_pro, "3", time=ends) == "accepted"
    assert period_starts() == [START, changed, ends]


def test_an_entitlement_that_cannot_be_saved_for_want_of_redis_moves_on_for_the_batch(on_pro, monkeypatch):
    def unreachable(ref):
        raise Unreachable("Redis is away.")

    on_pro.wait_until(MAY + timedelta(minutes=5))
    monkeypatch.setattr("apikeys.cache.drop", unreachable)

    assert take(on_pro, "old", time=MAY - SECOND) == "accepted"
    assert take(on_pro, "new", time=MAY) == "accepted"
    assert period_starts() == [START, MAY]
    assert Entitlement.objects.get().period_start == START


@pytest.fixture
def on_a_long_trial(acme, plans):
    """Acme on day 600 of a trial of 730 days, at an installation whose ledger begins with the present month."""
    acme.subscribe(plans.pro, trial_period_days=730)
    acme.wait(days=600)
    acme.see()
    with connection.cursor() as cursor:
        for month in existing_months():
            if month.end <= clock.now():
                cursor.execute(f"DROP TABLE {partition_name(month)}")
    return acme


def test_an_event_of_the_first_week_of_a_long_trial_is_taken_however_young_the_ledger_is(on_a_long_trial):
    organization, begins = on_a_long_trial.organization, on_a_long_trial.entitlement().period_start

    taken = send(
        event(organization, "now"),
        event(organization, "at first", time=begins),
        event(organization, "in the first week", time=begins + timedelta(days=3)),
        event(organization, "before", time=begins - SECOND),
    )

    assert statuses(taken) == ["accepted", "accepted", "accepted", "too_old"]
    assert UsageEvent.objects.count() == 3


def test_an_event_whose_month_was_dropped_is_refused_and_keeps_no_other_from_being_taken(on_a_long_trial):
    organization, begins = on_a_long_trial.organization, on_a_long_trial.entitlement().period_start
    month = calendar_month(begins)
    DroppedMonth.objects.create(month=month.start, events=0, units=0, dropped_at=clock.now())

    taken = send(
        event(organization, "dropped", time=begins),
        event(organization, "kept", time=month.end),
        event(organization, "now"),
    )

    assert statuses(taken) == ["too_old", "accepted", "accepted"]
    assert "ledger keeps no events" in taken[0].detail


def test_no_month_is_made_for_an_event_that_no_open_period_holds(on_pro):
    before = START - timedelta(days=60)

    assert take(on_pro, time=before) == "too_old"
    assert calendar_month(before) not in existing_months()


def test_an_event_that_waits_beyond_the_end_of_a_month_is_of_the_next_one(on_pro, monkeypatch):
    on_pro.wait_until(MAY - SECOND)
    lock = lock_entitlements

    def wait_and_lock(ids):
        on_pro.wait(seconds=2)
        return lock(ids)

    monkeypatch.setattr("usage.ingest.storing.lock_entitlements", wait_and_lock)

    assert take(on_pro) == "accepted"
    assert UsageEvent.objects.get().occurred_at > MAY
