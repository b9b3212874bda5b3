from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from accounts.models import Organization
from billing.entitlements import current_entitlement, free_period, lock_entitlement, refresh_entitlement
from billing.models import Entitlement, Plan
from billing.periods import calendar_month
from billing.subscriptions import find_live_subscription
from billing.tasks import refresh_entitlements
from tests.billing.cast import subscribe
from tests.billing.waiting import somebody_waits_for_a_lock, wait_until

pytestmark = pytest.mark.django_db


def set_subscription(subscription, **fields) -> None:
    """Change what the mirror holds, as a webhook would."""
    subscription.stripe_data = {**subscription.stripe_data, **fields}
    subscription.save()


def test_a_new_organization_is_on_free_for_the_calendar_month(organization, plans):
    entitlement = Entitlement.objects.get(organization=organization)
    month = calendar_month(organization.created_at)

    assert (entitlement.plan, entitlement.status) == (plans.free, "none")
    assert (entitlement.period_start, entitlement.period_end) == (month.start, month.end)
    assert (entitlement.rate_per_minute, entitlement.find_quota("requests")) == (10, 100)


def test_signing_up_needs_no_stripe(organization):
    """No fixture of Stripe is in reach here."""
    assert Organization.objects.get() == organization


def test_unlimited_is_none(plans, owner):
    Plan.objects.update(is_default=False)
    Plan.objects.filter(slug="enterprise").update(is_default=True)
    entitlement = Organization.objects.open(name="Big", owner=owner).entitlement

    assert (entitlement.rate_per_minute, entitlement.find_quota("requests")) == (None, None)


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
def test_these_statuses_give_the_plan(sandbox, organization, plans, status):
    set_subscription(subscribe(sandbox, organization, plan=plans.team), status=status)

    assert refresh_entitlement(organization).plan == plans.team


@pytest.mark.parametrize("status", ["unpaid", "canceled", "incomplete", "incomplete_expired", "paused"])
def test_these_statuses_leave_free_and_are_named(sandbox, organization, plans, status):
    set_subscription(subscribe(sandbox, organization, plan=plans.team), status=status)

    entitlement = refresh_entitlement(organization)

    assert (entitlement.plan, entitlement.status, entitlement.subscription_id) == (plans.free, status, "")


def test_a_renewal_whose_webhook_is_late_does_not_stop_the_customer(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    end = refresh_entitlement(organization).period_end

    late = refresh_entitlement(organization, now=end + timedelta(hours=3))

    assert (late.plan, late.period_start) == (plans.pro, end)
    assert late.period_end - end > timedelta(days=27)


def test_a_free_month_follows_on_the_one_before(organization, plans):
    end = Entitlement.objects.get().period_end

    assert current_entitlement(organization, now=end - timedelta(seconds=1)).period_end == end
    assert current_entitlement(organization, now=end).period_start == end


def test_the_free_period_begins_anew_when_a_subscription_ends():
    now = datetime(2026, 11, 20, tzinfo=UTC)
    ended = datetime(2026, 11, 12, 5, tzinfo=UTC)
    before = datetime(2026, 10, 12, 5, tzinfo=UTC)

    def period(*ends: datetime | None):
        return free_period(ends, now=now)

    assert period(ended, before).start == ended
    assert period(before, None).start == datetime(2026, 11, 1, tzinfo=UTC)
    assert period().end == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_subscription_to_something_else_gives_nothing(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    items = subscription.stripe_data["items"]
    for item in items["data"]:
        item["price"] |= {"id": "price_other", "product": "prod_other"}
    set_subscription(subscription, items=items)

    assert refresh_entitlement(organization).plan == plans.free
    assert find_live_subscription(organization) is None


def test_a_subscriber_on_an_older_price_keeps_the_plan(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    plans.pro.prices.update(stripe_price=None)

    assert refresh_entitlement(organization).plan == plans.pro


def test_a_limit_changed_by_staff_reaches_the_entitlement(organization, plans):
    Plan.objects.filter(slug="free").update(rate_per_minute=20)

    before = Entitlement.objects.get().version
    entitlement = refresh_entitlement(organization)

    assert (entitlement.rate_per_minute, entitlement.version) == (20, before + 1)


def test_staff_s_change_of_a_plan_reaches_every_organization_on_it(organization, outsider, plans):
    plans.free.quotas.update(included=250)

    assert refresh_entitlements(plans.free.pk) == 0

    assert [e.find_quota("requests") for e in Entitlement.objects.all()] == [250, 250]


def test_one_organization_s_trouble_does_not_keep_the_others_from_their_limits(
    organization, outsider, plans, monkeypatch
):
    def refresh(which):
        if which == organization:
            raise RuntimeError("broken")
        return refresh_entitlement(which)

    plans.free.quotas.update(included=250)
    monkeypatch.setattr("billing.tasks.refresh_entitlement", refresh)

    assert refresh_entitlements() == 1
    assert {e.find_quota("requests") for e in Entitlement.objects.all()} == {100, 250}


@pytest.mark.django_db(transaction=True)
def test_whoever_waits_for_the_lock_sees_the_plan_that_was_changed_meanwhile(organization, plans):
    def lock() -> Plan:
        try:
            with transaction.atomic():
                return lock_entitlement(organization).plan
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            lock_entitlement(organization)
            waiting = pool.submit(lock)
            wait_until(somebody_waits_for_a_lock)
            Entitlement.objects.filter(organization=organization).update(plan=plans.team)

        assert waiting.result() == plans.team
