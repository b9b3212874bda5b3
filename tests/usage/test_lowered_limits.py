"""A quota or a spend cap that falls below what is used: told at once, since no further unit may come to tell of it."""

from datetime import timedelta

import pytest
from django.db import transaction

from accounts import clock
from billing.entitlements import refresh_entitlement
from billing.models import Meter, NoticeKind, Plan, PlanOverride, PlanQuota
from billing.spend_caps import remove_spend_cap, set_spend_cap
from tests.usage.alerting import post, told, use
from usage.reports import make_reports

pytestmark = pytest.mark.django_db


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """Have what waits for the commit done at the end of a `with` block."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def include(free, committing):
    """Change what Free includes."""

    def change(units):
        PlanQuota.objects.filter(plan=Plan.objects.get(slug="free")).update(included=units)
        with committing():
            refresh_entitlement(free.organization)

    return change


def override(acme, *, included, days):
    """Include more, or less, for some days."""
    now = clock.now()
    row = PlanOverride.objects.create(
        organization=acme.organization, reason="A trial", starts_at=now, ends_at=now + timedelta(days=days)
    )
    row.quotas.create(meter=Meter.objects.get(slug="requests"), included=included)
    refresh_entitlement(acme.organization)


def test_what_was_not_sent_since_an_override_raised_the_limit_is_told_once_that_has_ended(free, committing):
    use(free, 100)
    override(free, included=1000, days=1)
    assert post() == []
    use(free, 1)
    assert post() == []  # 101 of 1,000.

    free.wait(days=2)
    with committing():
        refresh_entitlement(free.organization)
    [letter] = post()
    assert "101 of the 100 calls" in letter.body

    with committing():
        refresh_entitlement(free.organization)
    use(free, 1)
    assert post() == []


def test_a_quota_that_an_override_s_end_puts_below_what_is_used_is_told_at_once(free, committing):
    override(free, included=1000, days=3)
    use(free, 300)
    assert told() == []
    free.wait(days=4)

    with committing():
        refresh_entitlement(free.organization)

    assert told() == [100]
    (letter,) = post()
    assert letter.subject == "You have used all 100 calls that Free includes this month"
    assert "Until then further calls are refused." in letter.body


def test_a_quota_that_is_lowered_past_several_levels_is_told_as_the_highest_and_once(free, include):
    include(1000)
    use(free, 90)

    include(100)
    assert told() == [80]
    include(1000)
    include(100)
    use(free, 1)

    assert told() == [80]


def test_a_quota_that_is_raised_is_told_of_as_it_is_reached(free, include):
    use(free, 100)

    include(120)

    assert told() == [100]
    use(free, 1)
    assert told() == [80, 100]


def test_a_quota_lowered_to_what_leaves_half_of_it_is_not_told(free, include):
    include(1000)
    use(free, 40)

    include(100)

    assert told() == []


def test_a_meter_that_a_plan_has_again_with_less_than_was_used_is_told(free, include, committing):
    include(1000)
    use(free, 300)
    PlanQuota.objects.filter(plan=Plan.objects.get(slug="free")).delete()
    with committing():
        refresh_entitlement(free.organization)
    assert told() == []

    requests_meter = Meter.objects.get(slug="requests")
    PlanQuota.objects.create(plan=Plan.objects.get(slug="free"), meter=requests_meter, included=200)
    with committing():
        refresh_entitlement(free.organization)

    assert told() == [100]


def test_a_spend_cap_below_what_was_spent_is_told_at_once(metered, requests, committing):
    use(metered, 300)  # Of them 200 at 2 cents.

    with committing():
        set_spend_cap(metered.organization, requests, amount=100, currency="usd")

    assert told(NoticeKind.SPEND_REACHED) == [100]
    assert "Your spend cap of $1 is reached" in [letter.subject for letter in post()]


def test_a_spend_cap_that_is_lowered_is_told_by_its_highest_level_and_once(metered, requests, committing):
    set_spend_cap(metered.organization, requests, amount=1000, currency="usd")
    use(metered, 140)
    assert told(NoticeKind.SPEND_REACHED) == []

    with committing():
        set_spend_cap(metered.organization, requests, amount=100, currency="usd")
    assert told(NoticeKind.SPEND_REACHED) == [80]
    with committing():
        remove_spend_cap(metered.organization, requests)
        set_spend_cap(metered.organization, requests, amount=100, currency="usd")

    assert told(NoticeKind.SPEND_REACHED) == [80]


def test_a_limit_that_is_lowered_in_a_transaction_that_comes_to_nothing_is_not_told(free, committing):
    override(free, included=1000, days=3)
    use(free, 300)
    free.wait(days=4)

    with committing() as waiting, transaction.atomic():
        refresh_entitlement(free.organization)
        transaction.set_rollback(True)

    assert (waiting, told()) == ([], [])


def test_who_lowers_a_limit_and_who_reports_units_tell_of_it_once(free, committing):
    override(free, included=1000, days=3)
    use(free, 300)
    free.use(1)
    free.wait(days=4)

    with committing():
        refresh_entitlement(free.organization)
        make_reports()

    assert told() == [100]


def test_a_change_that_lowers_no_limit_looks_nothing_up(free, committing):
    use(free, 60)
    free.wait_until(free.entitlement().period_end + timedelta(hours=1))

    with committing() as waiting:
        refresh_entitlement(free.organization)

    assert free.entitlement().version > 1
    assert waiting == []
