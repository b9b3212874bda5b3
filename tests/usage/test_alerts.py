"""Half, four fifths and all of a quota or a spend cap: one e-mail a crossing, however usage and limits move."""

from datetime import timedelta

import pytest
from django.db import transaction

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.models import Notice, NoticeKind, NoticeState, Plan, PlanQuota
from billing.spend_caps import remove_spend_cap, set_spend_cap
from billing.stripe.changing import change_plan
from tests.usage.alerting import KINDS, post, told, use
from tests.usage.cast import make_event
from usage.ledger import store
from usage.models import MeterReport, UsageRollup
from usage.reports import make_reports

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """Stands for the end of the process."""


@transaction.atomic
def report_and_die():
    make_reports()
    assert told() == [80]
    raise Killed


def test_each_level_is_told_once_as_it_is_reached(free):
    use(free, 49)
    assert told() == []
    use(free, 1)
    assert told() == [50]
    use(free, 29)
    assert told() == [50]
    use(free, 1)
    assert told() == [50, 80]
    use(free, 20)
    assert told() == [50, 80, 100]


def test_a_jump_over_several_levels_is_told_as_the_highest(free):
    use(free, 85)

    assert told() == [80]
    use(free, 1)
    assert told() == [80]
    use(free, 14)
    assert told() == [80, 100]


def test_the_letter_says_how_much_is_used_and_that_calls_will_be_refused(free):
    free.wait(days=10)
    free.use(82)
    free.wait(days=1)
    make_reports()

    (letter,) = post()

    assert letter.subject == "You have used 80% of this month's calls"
    assert "used 82 of the 100 calls that Free includes (Requests), 82%." in letter.body.replace("API ", "")
    assert "They last until 1 May 2026 at 00:00 (UTC), when the next month's begin." in letter.body
    assert "further calls are refused until then" in letter.body
    # 82 calls in the seven whole days before 12 April: 18 more take 1.54 days.
    assert "At the present rate the rest is used up on 13 April 2026 at 12:52 (UTC)" in letter.body
    assert "/dashboard/billing/" in letter.body


def test_the_letter_at_the_end_of_a_quota_that_blocks_says_until_when_calls_are_refused(free):
    use(free, 100)

    (letter,) = post()

    assert letter.subject == "You have used all 100 calls that Free includes this month"
    assert "The next month's begin on 1 May 2026 at 00:00 (UTC)." in letter.body
    assert "last until" not in letter.body
    assert "Until then further calls are refused." in letter.body


@pytest.mark.parametrize(
    ("units", "sentence"),
    [
        (110, "has used 110 of the 100 calls that Pro includes (Requests), 110%."),
        (1000, "has used 1,000 of the 100 calls that Pro includes (Requests), 1000%."),
        (
            10**9 + 2,
            "has used 1,000,000,002 of the 100 calls that Pro includes (Requests), more than ten times as many.",
        ),
    ],
)
def test_how_much_more_than_included_was_used_is_told_in_numbers_that_people_read(metered, units, sentence):
    use(metered, units)

    (letter,) = post()

    assert sentence in letter.body.replace("API ", "")
    assert "last until" not in letter.body


def test_the_letter_at_the_end_of_a_quota_that_bills_says_what_each_call_costs(metered):
    use(metered, 100)

    (letter,) = post()

    assert "From here on each call costs $0.02." in letter.body
    assert "refused" not in letter.body


def test_a_spend_cap_is_told_by_what_the_calls_cost(metered, requests):
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")  # 50 further calls.
    use(metered, 124)
    assert told(NoticeKind.SPEND_REACHED) == []
    use(metered, 1)
    assert told(NoticeKind.SPEND_REACHED) == [50]
    use(metered, 14)
    assert told(NoticeKind.SPEND_REACHED) == [50]
    use(metered, 1)
    assert told(NoticeKind.SPEND_REACHED) == [50, 80]
    use(metered, 10)
    assert told(NoticeKind.SPEND_REACHED) == [50, 80, 100]


def test_the_letters_of_a_spend_cap_name_the_money(metered, requests):
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    use(metered, 140)
    quota, spend = post()
    assert "until your spend cap is reached" in quota.body
    assert spend.subject == "80% of your spend cap of $1 is used"
    assert "80% of the $1 that you let them cost beyond your plan" in spend.body
    assert "The cap is reached with 150 calls." in spend.body

    use(metered, 10)

    (letter,) = post()
    assert letter.subject == "Your spend cap of $1 is reached"
    assert "Further calls are refused until 1 May 2026 at 00:00 (UTC)." in letter.body


def test_a_cap_below_the_price_of_one_call_makes_the_quota_one_that_blocks(metered, requests):
    set_spend_cap(metered.organization, requests, amount=1, currency="usd")
    use(metered, 100)

    (letter,) = post()

    assert (
        "Until then further calls are refused. Your own spend cap keeps them from being billed" in letter.body
    )


def test_a_cap_that_one_call_uses_up_half_of_is_told_with_that_call(metered, requests):
    set_spend_cap(metered.organization, requests, amount=3, currency="usd")  # One further call.
    use(metered, 100)
    assert told(NoticeKind.SPEND_REACHED) == []
    use(metered, 1)

    assert told(NoticeKind.SPEND_REACHED) == [100]


def test_a_cap_in_a_currency_that_is_not_billed_in_tells_of_no_money(metered, requests):
    set_spend_cap(metered.organization, requests, amount=100, currency="eur")

    use(metered, 145)  # Events may go beyond what the gate lets in.

    assert told(NoticeKind.SPEND_REACHED) == []
    (letter,) = post()
    assert "further calls are refused" in letter.body


def test_a_raised_cap_is_another_one_and_a_cap_that_comes_back_is_not(metered, requests):
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    use(metered, 145)
    set_spend_cap(metered.organization, requests, amount=200, currency="usd")
    use(metered, 5)
    assert told(NoticeKind.SPEND_REACHED) == [50, 80]

    remove_spend_cap(metered.organization, requests)
    set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    use(metered, 1)

    assert told(NoticeKind.SPEND_REACHED) == [50, 80, 100]


def test_a_larger_plan_is_another_limit_whose_levels_are_told_anew(acme, plans):
    acme.subscribe(plans.pro)
    use(acme, 8_000)
    assert told() == [80]

    change_plan(acme.organization, plan=plans.team)
    use(acme, 10_000)
    assert told() == [80]
    use(acme, 32_000)

    assert told() == [50, 80]


def test_going_back_to_a_plan_tells_nothing_twice(free):
    def include(units):
        PlanQuota.objects.filter(plan=Plan.objects.get(slug="free")).update(included=units)
        refresh_entitlement(free.organization)

    use(free, 50)
    include(1000)
    use(free, 1)
    include(100)
    use(free, 1)

    assert told() == [50]


def test_a_period_that_is_carried_over_goes_on_counting(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    use(acme, 5_000)
    change_plan(acme.organization, plan=plans.pro, interval="year")
    assert acme.entitlement().carried_from
    use(acme, 1)
    assert told() == [50]  # The same quota of the same month: no new crossing.

    use(acme, 3_000)

    assert told() == [50, 80]


def test_a_new_month_begins_anew(free):
    use(free, 60)
    free.wait_until(free.entitlement().period_end + timedelta(hours=1))
    refresh_entitlement(free.organization)
    use(free, 10)
    assert told() == [50]
    use(free, 40)

    assert told() == [50, 50]


def test_what_is_reported_late_of_a_month_that_is_over_tells_nothing(free):
    free.use(90)
    free.wait_until(free.entitlement().period_end + timedelta(hours=1))
    refresh_entitlement(free.organization)

    make_reports()

    assert told() == []


def test_a_crash_before_the_units_are_marked_loses_nothing_and_tells_nothing_twice(free):
    free.use(80)

    with pytest.raises(Killed):
        report_and_die()

    assert told() == []
    assert not MeterReport.objects.exists()
    assert UsageRollup.objects.get().reported_units == 0

    make_reports()
    make_reports()

    assert told() == [80]


def test_an_alert_that_is_overtaken_before_it_is_sent_is_left_out(free):
    use(free, 50)
    use(free, 30)

    (letter,) = post()

    assert letter.subject == "You have used 80% of this month's calls"
    assert Notice.objects.get(context__level=50, kind=NoticeKind.QUOTA_REACHED).state == NoticeState.OUTDATED


def test_an_alert_about_a_quota_that_was_raised_before_it_is_sent_is_left_out(acme, plans):
    use(acme, 100)
    acme.subscribe(plans.pro)

    assert post() == []


def test_a_plan_without_an_end_is_silent(acme, plans):
    PlanQuota.objects.filter(plan=plans.free).update(included=None)
    refresh_entitlement(acme.organization)
    use(acme, 1_000_000)

    assert told() == []


def test_two_customers_are_told_each_of_their_own(free, outsider):
    use(free, 55)

    assert {notice.organization for notice in Notice.objects.filter(kind__in=KINDS)} == {free.organization}


def test_an_alert_that_fails_keeps_nobody_s_usage_from_being_reported(free, outsider):
    """Its time zone is one that this machine does not know."""
    theirs = Organization.objects.get(name="Rival")
    Organization.objects.filter(pk=theirs.pk).update(time_zone="Mars/Base")
    store([make_event(organization_id=theirs.pk, at=theirs.created_at, units=90)])
    use(free, 55)

    assert told() == [50]
    assert set(MeterReport.objects.values_list("units", flat=True)) == {55, 90}

    Organization.objects.filter(pk=theirs.pk).update(time_zone="UTC")
    store([make_event(organization_id=theirs.pk, at=theirs.created_at)])
    make_reports()
    assert told() == [50, 80]


def test_what_was_told_before_costs_one_query(free, django_assert_max_num_queries):
    use(free, 60)
    free.use(1)

    with django_assert_max_num_queries(13):
        make_reports()
