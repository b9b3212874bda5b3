"""The status policy applied: against a slow model of it, and on a clock."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts import clock
from accounts.models import Organization
from billing.access import RANK, ruling
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.models import Access, Entitlement, Plan, PlanPrice, StatusPolicy
from billing.stripe.catalog import publish_plan
from billing.stripe.client import get_client
from billing.tasks import refresh_due_entitlements
from tests.billing.cast import subscribe
from tests.billing.stage import BAD_CARD, DAY, HOUR, Stage, lines_of, open_stage
from tests.billing.test_entitlements import set_subscription

pytestmark = pytest.mark.long

SINCE = datetime(2026, 11, 3, 7, 30, 15, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.fixture
def stage(sandbox, webhook_endpoint, plans, owner):
    with open_stage(sandbox, owner) as stage:
        yield stage


class SlowPolicy:
    """The policy as one would explain it: day by day, by looking up each day's row."""

    def __init__(self, rows: dict[int, Access], *, since: datetime) -> None:
        self.rows, self.since = rows, since

    def access_on(self, day: int) -> Access:
        reached = [from_day for from_day in self.rows if from_day <= day]
        return self.rows[max(reached)] if reached else Access.LIMITED

    def day_of(self, now: datetime) -> int:
        day = 0
        while self.since + (day + 1) * DAY <= now:
            day += 1
        return day

    def access_at(self, now: datetime) -> Access:
        return self.access_on(self.day_of(now))

    def grace_end(self, now: datetime) -> datetime | None:
        today = self.day_of(now)
        held = self.access_on(today)
        if held == Access.UNCHANGED:
            return None
        for day in range(today + 1, 100):
            there = self.access_on(day)
            if there != Access.UNCHANGED and RANK[there] < RANK[held]:
                return self.since + day * DAY
        return None

    def lost_at(self, now: datetime) -> datetime | None:
        lost = None
        for day in range(self.day_of(now), -1, -1):
            if self.access_on(day) in {Access.FULL, Access.UNCHANGED}:
                break
            lost = day
        return None if lost is None else self.since + lost * DAY


@settings(max_examples=300, deadline=None)
@given(
    rows=st.dictionaries(st.integers(0, 40), st.sampled_from(list(Access)), max_size=6),
    elapsed=st.integers(0, 60 * 24 * 60) | st.integers(0, 50).map(lambda day: day * 24 * 60),
    nudge=st.sampled_from([-MOMENT, timedelta(), MOMENT]),
)
def test_the_ruling_is_that_of_a_slow_and_obvious_model(rows, elapsed, nudge):
    now = max(SINCE, SINCE + timedelta(minutes=elapsed) + nudge)
    slow = SlowPolicy(rows, since=SINCE)
    # Other statuses' rows are no business of this one.
    others = [StatusPolicy(status="unpaid", from_day=day, access=Access.NONE) for day in (0, 3)]
    policies = [StatusPolicy(status="past_due", from_day=d, access=a) for d, a in rows.items()]
    quick = ruling("past_due", since=SINCE, policies=[*others, *policies])

    assert quick.at(now).access == slow.access_at(now)
    assert quick.grace_end(now) == slow.grace_end(now)
    assert quick.lost_at(now) == slow.lost_at(now)


@settings(max_examples=100, deadline=None)
@given(rows=st.dictionaries(st.integers(0, 40), st.sampled_from(list(Access)), max_size=6))
def test_walking_from_rule_to_rule_passes_every_change(rows):
    """`valid_until` goes by it: nobody may be left on a rule that has ended."""
    slow = SlowPolicy(rows, since=SINCE)
    policies = [StatusPolicy(status="paused", from_day=d, access=a) for d, a in rows.items()]
    quick = ruling("paused", since=SINCE, policies=policies)

    now, passed = SINCE, {SINCE: quick.at(SINCE).access}
    while following := quick.next_after(now):
        now = following.starts_at
        passed[now] = quick.at(now).access

    for day in range(50):
        moment = SINCE + day * DAY
        assert passed[max(each for each in passed if each <= moment)] == slow.access_on(day)


@pytest.mark.django_db
def test_a_failed_payment_keeps_the_plan_for_seven_days_and_no_longer(stage, plans):
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    failed = stage.now

    # Nothing is heard of Stripe any more, and no task runs.
    def at(moment: datetime) -> tuple[str, str]:
        entitlement = current_entitlement(stage.organization, now=moment)
        return entitlement.access, entitlement.plan.slug

    assert stage.entitlement.grace_end == failed + 7 * DAY
    assert at(failed + timedelta(days=6.99)) == (Access.FULL, "pro")
    assert at(failed + 7 * DAY - MOMENT) == (Access.FULL, "pro")
    assert at(failed + 7 * DAY) == (Access.LIMITED, "free")


@pytest.mark.django_db
def test_the_days_count_from_the_first_failure_not_from_the_last_try(stage, plans):
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    failed = stage.now
    stage.go(6 * DAY)

    assert stage.entitlement.status_since == failed


@pytest.mark.django_db
def test_a_lapse_that_nobody_calls_into_is_found_within_the_minute(stage, plans):
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    stage.hears = False
    stage.arrive(stage.now + 7 * DAY)
    assert stage.entitlement.access == Access.FULL

    assert refresh_due_entitlements() == 0

    assert stage.entitlement.access == Access.LIMITED


@pytest.mark.django_db
def test_those_whose_time_is_not_up_are_left_alone(organization, outsider, plans):
    end = Entitlement.objects.get(organization=organization).valid_until
    with clock.standing_at(end - MOMENT):
        refresh_due_entitlements()
    assert set(Entitlement.objects.values_list("version", flat=True)) == {1}

    with clock.standing_at(end):
        refresh_due_entitlements()
    assert set(Entitlement.objects.values_list("version", flat=True)) == {2}


@pytest.mark.django_db
def test_a_lapse_does_not_queue_behind_everybody_s_new_month(
    sandbox, organization, outsider, plans, monkeypatch
):
    rival = Organization.objects.get(name="Rival")
    set_subscription(subscribe(sandbox, rival, plan=plans.pro), status="past_due")
    refresh_entitlement(rival)
    later = Entitlement.objects.get(organization=organization).valid_until + 40 * DAY
    monkeypatch.setattr("billing.tasks.DUE_AT_ONCE", 1)

    with clock.standing_at(later):
        refresh_due_entitlements()

    assert Entitlement.objects.get(organization=rival).access == Access.LIMITED
    assert Entitlement.objects.get(organization=organization).version == 1


@pytest.mark.django_db
def test_a_payment_that_arrives_gives_the_plan_back_at_once(stage, plans):
    stage.subscribe(plans.pro)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR)
    stage.go(7 * DAY)
    stage.beat()
    assert stage.entitlement.plan == plans.free

    stage.pay()

    entitlement = stage.entitlement
    assert (entitlement.status, entitlement.access, entitlement.plan) == ("active", Access.FULL, plans.pro)
    assert entitlement.grace_end is None


@pytest.mark.django_db
def test_of_two_that_have_ended_the_later_one_counts_whatever_its_plan_was(stage, plans):
    """Else a customer who left Pro yesterday would be held to the Team that ended last year."""
    StatusPolicy.objects.create(status="canceled", from_day=30, access=Access.NONE)
    cancel(stage, stage.subscribe(plans.team))
    stage.go(40 * DAY)
    cancel(stage, stage.subscribe(plans.pro))

    assert (stage.entitlement.bought_plan, stage.entitlement.access) == (plans.pro, Access.LIMITED)


@pytest.mark.django_db
def test_a_purchase_that_failed_does_not_lift_what_the_policy_holds_against_the_one_before(stage, plans):
    StatusPolicy.objects.filter(status="canceled").update(access=Access.NONE)
    cancel(stage, stage.subscribe(plans.team))
    assert stage.entitlement.access == Access.NONE

    stage.go(DAY)
    stage.subscribe(plans.pro, payment_behavior="default_incomplete")
    stage.go(DAY)

    assert stage.subscription["status"] == "incomplete_expired"
    assert stage.entitlement.access == Access.NONE


@pytest.mark.django_db
def test_the_next_rule_of_one_that_does_not_decide_yet_is_not_slept_through(stage, plans):
    StatusPolicy.objects.create(status="incomplete", from_day=1, access=Access.NONE)
    stage.subscribe(plans.pro, payment_behavior="default_incomplete")
    begun = stage.now
    assert (stage.entitlement.access, stage.entitlement.valid_until) == (Access.LIMITED, begun + DAY)

    assert current_entitlement(stage.organization, now=begun + DAY).access == Access.NONE


@pytest.mark.django_db
def test_a_status_without_any_rule_leaves_the_default_limits(sandbox, organization, plans):
    set_subscription(subscribe(sandbox, organization, plan=plans.team), status="paused")
    StatusPolicy.objects.filter(status="paused").delete()

    entitlement = refresh_entitlement(organization)

    assert (entitlement.plan, entitlement.access, entitlement.policy) == (plans.free, Access.LIMITED, None)


# When a subscription begins, and the days its months end on: the 31st comes back after shorter months, and
# a leap year has its 29 February.
MONTHS = {
    datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC): "01-31 02-29 03-31 04-30 05-31 06-30 07-31",
    datetime(2028, 2, 29, tzinfo=UTC): "03-29 04-29 05-29 06-29 07-29 08-29",
    datetime(2027, 1, 30, 0, 0, 1, tzinfo=UTC): "02-28 03-30 04-30 05-30",
}


@pytest.mark.django_db
@pytest.mark.parametrize("start", MONTHS, ids=str)
def test_quota_months_are_stripe_s_also_at_a_month_s_end(sandbox, webhook_endpoint, plans, owner, start):
    with open_stage(sandbox, owner, start=start) as stage:
        stage.subscribe(plans.pro)
        for day in MONTHS[start].split():
            before = stage.entitlement
            assert before.period_end.strftime("%m-%d") == day
            assert before.period_end.time() == start.time()
            # A renewal of which nobody has heard yet: the next month is reckoned, and the same.
            reckoned = refresh_entitlement(stage.organization, now=before.period_end)
            stage.skip(before.period_end + 2 * HOUR)

            after = stage.entitlement
            assert (after.period_start, after.period_end) == (reckoned.period_start, reckoned.period_end)
            assert after.period_start == before.period_end


@pytest.mark.django_db
def test_a_yearly_fee_taken_out_on_a_leap_day_has_twelve_months_a_year(
    sandbox, webhook_endpoint, plans, owner
):
    start = datetime(2028, 2, 29, 12, tzinfo=UTC)
    with open_stage(sandbox, owner, start=start) as stage:
        stage.subscribe(plans.pro, interval="year")
        periods = [stage.entitlement.period_start]
        for _ in range(13):
            stage.skip(stage.entitlement.period_end + 2 * HOUR)
            periods.append(stage.entitlement.period_start)

    assert [f"{each:%y-%m-%d}" for each in periods] == [
        *(f"28-{month:02}-29" for month in range(2, 13)),
        "29-01-29",
        "29-02-28",
        "29-03-29",
    ]
    assert {each.time() for each in periods} == {start.time()}


@pytest.mark.django_db
def test_an_object_without_its_period_is_an_error_and_changes_nothing(sandbox, organization, plans):
    """What a change of Stripe's API did elsewhere: access by a period that was silently none."""
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    before = refresh_entitlement(organization)
    items = subscription.stripe_data["items"]
    for item in items["data"]:
        del item["current_period_end"]
    set_subscription(subscription, items=items)

    with pytest.raises(KeyError, match="current_period_end"):
        refresh_entitlement(organization)
    assert Entitlement.objects.get().version == before.version


@pytest.mark.django_db
def test_what_was_bought_is_remembered_while_its_limits_do_not_apply(stage, plans):
    stage.subscribe(plans.team)
    stage.use_card(BAD_CARD)
    stage.go(stage.entitlement.period_end + HOUR + 7 * DAY)
    stage.beat()

    entitlement = stage.entitlement
    assert (entitlement.plan, entitlement.bought_plan) == (plans.free, plans.team)
    assert entitlement.banner.startswith(
        "Your payment is more than a week overdue. You have the limits of Free"
    )


@pytest.mark.django_db
def test_a_change_to_a_yearly_fee_in_mid_month_carries_what_was_used(stage, plans):
    stage.subscribe(plans.pro)
    first = stage.entitlement.period_start
    stage.go(10 * DAY)

    switch_to_yearly(stage, plans)

    assert stage.entitlement.period_start == stage.now
    assert stage.entitlement.carried_from == [first.isoformat()]
    stage.go(stage.entitlement.period_end + 2 * HOUR)
    assert stage.entitlement.carried_from == []


@pytest.mark.django_db
def test_a_trial_s_units_are_not_carried_into_the_first_paid_month(stage, plans):
    stage.subscribe(plans.pro, trial_days=10)
    stage.go(10 * DAY + 2 * HOUR)

    entitlement = stage.entitlement
    assert (entitlement.status, entitlement.carried_from) == ("active", [])


def cancel(stage: Stage, subscription: str) -> None:
    get_client().v1.subscriptions.cancel(subscription)
    stage.hear()


def switch_to_yearly(stage: Stage, plans: SimpleNamespace) -> None:
    """Let Stripe charge by the year from now on, which makes now the day that months are counted from."""
    PlanPrice.objects.create(plan=plans.pro, interval="year", unit_amount=29_000)
    publish_plan(plans.pro)
    fee, usage = stage.subscription["_items"]
    lines = lines_of(Plan.objects.get(pk=plans.pro.pk), interval="year")
    items: Any = [{"id": fee, **lines[0]}, {"id": usage, **lines[1]}]
    get_client().v1.subscriptions.update(
        stage.subscription["id"],
        {"items": items, "proration_behavior": "always_invoice", "billing_cycle_anchor": "now"},
    )
    stage.hear()
