"""A subscription that was to end, of whose end nothing was heard, gives its plan no longer than that."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from billing.models import Access, Entitlement, Notice, NoticeKind, StatusPolicy
from billing.stripe.ending import cancel_at_period_end, resume
from billing.tasks import refresh_due_entitlements
from tests.billing.acme import FAILS
from tests.billing.stage import tasks_at_once
from tests.usage.proving import MAY
from usage.models import UsageRollup

pytestmark = pytest.mark.django_db

MOMENT = timedelta(microseconds=1)
ONE = MAY + timedelta(hours=1)


@pytest.fixture
def leaving(on_pro):
    """Acme, whose Pro is to end with April, as the mirror knows; of what comes then nothing is heard."""
    cancel_at_period_end(on_pro.organization)
    on_pro.see()
    return on_pro


def test_an_hour_later_the_plan_is_gone(leaving, plans):
    leaving.wait_until(ONE - MOMENT)
    assert (leaving.entitlement().plan, leaving.entitlement().valid_until) == (plans.pro, ONE)

    leaving.wait_until(ONE)

    entitlement = leaving.entitlement()
    assert (entitlement.plan, entitlement.access) == (plans.free, Access.LIMITED)
    assert (entitlement.status, entitlement.bought_plan) == ("active", plans.pro)


def test_it_is_looked_at_anew_though_nobody_calls(leaving, plans):
    leaving.wait_until(MAY)
    refresh_due_entitlements()
    leaving.wait_until(ONE)
    refresh_due_entitlements()

    assert Entitlement.objects.get(organization=leaving.organization).plan == plans.free


def test_a_day_of_its_own_counts_too(on_pro, plans):
    at = datetime(2026, 4, 20, 12, tzinfo=UTC)
    on_pro.api.subscriptions.update(on_pro.subscription_id, {"cancel_at": int(at.timestamp())})
    on_pro.see()
    assert on_pro.entitlement().valid_until == at + timedelta(hours=1)

    on_pro.wait_until(at + timedelta(hours=1))

    assert (on_pro.entitlement().plan, on_pro.entitlement().period_start) == (plans.free, at)


def test_what_is_used_meanwhile_counts_in_the_period_that_follows_the_end(leaving):
    leaving.wait_until(MAY + timedelta(minutes=30))
    leaving.use(3)
    leaving.wait_until(ONE)
    leaving.use(4)
    before = leaving.entitlement().period_start

    leaving.see()

    assert leaving.entitlement().period_start == before == MAY
    assert UsageRollup.objects.counting_for(leaving.entitlement(), "requests").units() == 7


def test_staff_s_policy_for_what_has_ended_holds_for_it_as_well(leaving, plans):
    StatusPolicy.objects.filter(status="canceled").update(access=Access.FULL)
    StatusPolicy.objects.create(status="canceled", from_day=3, access=Access.NONE)

    leaving.wait_until(ONE)
    assert leaving.entitlement().plan == plans.pro
    leaving.wait_until(MAY + timedelta(days=3))
    assert leaving.entitlement().access == Access.NONE


def test_that_it_has_ended_is_said_once_stripe_says_so(leaving):
    leaving.wait_until(ONE)
    refresh_due_entitlements()
    later = Notice.objects.filter(created_at__gte=MAY)
    assert not later.exists()

    leaving.see()

    assert [notice.kind for notice in later] == [NoticeKind.CANCELLED]
    assert leaving.entitlement().status == "canceled"


def test_who_resumed_in_time_keeps_the_plan(leaving, plans):
    resume(leaving.organization)
    leaving.wait_until(ONE)
    refresh_due_entitlements()

    assert leaving.entitlement().plan == plans.pro
    assert leaving.entitlement().valid_until == datetime(2026, 6, 1, tzinfo=UTC)


def test_who_resumed_unheard_has_the_plan_back_by_the_next_reconciliation(leaving, plans):
    leaving.api.subscriptions.update(leaving.subscription_id, {"cancel_at_period_end": False})
    leaving.wait_until(ONE)
    assert leaving.entitlement().plan == plans.free
    leaving.use(5)

    call_command("reconcile")

    entitlement = leaving.entitlement()
    assert (entitlement.plan, entitlement.period_start, entitlement.carried_from) == (plans.pro, MAY, [])
    assert UsageRollup.objects.counting_for(entitlement, "requests").units() == 5
    assert not Notice.objects.filter(created_at__gte=MAY).exists()


def test_stripe_is_asked_at_once_whether_it_was_resumed_unheard(
    leaving, plans, django_capture_on_commit_callbacks
):
    leaving.api.subscriptions.update(leaving.subscription_id, {"cancel_at_period_end": False})
    leaving.wait_until(ONE)

    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        assert leaving.entitlement().plan == plans.free

    assert leaving.entitlement().plan == plans.pro


def test_nobody_is_asked_of_what_the_policy_takes(on_pro, monkeypatch, django_capture_on_commit_callbacks):
    asked: list[object] = []
    monkeypatch.setattr("billing.tasks.reconcile", asked.append)
    on_pro.pay_with(FAILS)
    on_pro.wait_until(ONE + timedelta(hours=1))
    on_pro.see()
    on_pro.wait(days=8)

    with tasks_at_once(), django_capture_on_commit_callbacks(execute=True):
        assert on_pro.entitlement().access == Access.LIMITED

    assert asked == []
