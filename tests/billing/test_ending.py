"""Ending a subscription at the period's end or now, and taking that back."""

from datetime import UTC, datetime, timedelta

import pytest
from redis.exceptions import ConnectionError as Unreachable

from billing.errors import ChangeRefused, NoSubscription, UsageNotReported
from billing.standing import find_standing
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_at_period_end, cancel_now, preview_cancel_now, resume
from tests.billing.acme import CHALLENGES, FAILS
from usage import stream

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 1, tzinfo=UTC)


class TestAtThePeriodsEnd:
    def test_it_lasts_as_long_as_it_is_paid_for(self, on_pro, plans):
        assert cancel_at_period_end(on_pro.organization) == MAY

        assert (on_pro.entitlement().plan, find_standing(on_pro.organization).cancels_at) == (plans.pro, MAY)
        on_pro.wait_until(MAY)
        on_pro.see()
        assert (on_pro.entitlement().plan, find_standing(on_pro.organization)) == (plans.free, None)
        assert [each.total for each in on_pro.invoices()] == [2900, 0]

    def test_set_twice_it_is_the_same_day(self, on_pro):
        assert cancel_at_period_end(on_pro.organization) == cancel_at_period_end(on_pro.organization) == MAY

    def test_a_trial_ends_with_the_trial(self, acme, plans):
        acme.subscribe(plans.pro, trial_period_days=14)

        assert cancel_at_period_end(acme.organization) == datetime(2026, 4, 15, tzinfo=UTC)

        acme.wait(days=15)
        assert acme.subscription().status == "canceled"
        assert [each.total for each in acme.invoices()] == [0]

    def test_a_yearly_plan_ends_with_the_year_and_not_with_the_month_of_its_usage(self, acme, plans):
        acme.subscribe(plans.pro, interval="year")
        acme.wait(days=40)

        assert cancel_at_period_end(acme.organization) == datetime(2027, 4, 1, tzinfo=UTC)

        acme.wait_until(datetime(2027, 3, 31, 23, tzinfo=UTC))
        assert acme.subscription().status == "active"
        acme.wait(hours=3)
        assert acme.subscription().status == "canceled"
        assert {each.total for each in acme.invoices()} == {29_000, 0}

    def test_a_scheduled_change_gives_way_to_it(self, acme, plans):
        acme.subscribe(plans.team)
        change_plan(acme.organization, plan=plans.pro)

        cancel_at_period_end(acme.organization)

        standing = find_standing(acme.organization)
        assert (standing.scheduled_change, standing.cancels_at) == (None, MAY)
        acme.wait_until(MAY)
        assert acme.subscription().status == "canceled"

    def test_an_upgrade_that_waits_for_payment_is_given_up(self, on_pro, plans):
        on_pro.pay_with(CHALLENGES)
        change_plan(on_pro.organization, plan=plans.team)

        cancel_at_period_end(on_pro.organization)

        assert on_pro.last_invoice().status == "void"
        assert on_pro.subscription().pending_update is None

    def test_what_is_owed_stays_owed(self, acme, plans):
        acme.subscribe(plans.pro)
        acme.pay_with(FAILS)
        acme.wait(days=30, hours=2)

        assert cancel_at_period_end(acme.organization) == datetime(2026, 6, 1, tzinfo=UTC)
        acme.see()
        assert find_standing(acme.organization).open_invoice.amount == 2900

    def test_one_that_has_not_begun_has_no_period(self, acme, plans):
        acme.subscribe(plans.pro, payment_behavior="default_incomplete")

        with pytest.raises(ChangeRefused) as refused:
            cancel_at_period_end(acme.organization)
        assert refused.value.code == "incomplete"

    def test_without_a_subscription_nothing_can_end(self, acme):
        with pytest.raises(NoSubscription):
            cancel_at_period_end(acme.organization)


class TestResuming:
    def test_it_goes_on(self, on_pro):
        cancel_at_period_end(on_pro.organization)
        for _ in range(2):
            resume(on_pro.organization)

        assert find_standing(on_pro.organization).cancels_at is None
        on_pro.wait(days=21)
        assert on_pro.subscription().status == "active"

    def test_whoever_left_by_the_portal_can_come_back(self, on_pro):
        # In flexible billing mode the portal sets the date alone.
        on_pro.api.subscriptions.update(on_pro.subscription_id, {"cancel_at": int(MAY.timestamp())})

        resume(on_pro.organization)

        assert on_pro.subscription().cancel_at is None

    def test_an_end_that_a_schedule_holds_is_lifted_with_it(self, on_pro):
        schedule = on_pro.api.subscription_schedules.create({"from_subscription": on_pro.subscription_id})
        on_pro.api.subscription_schedules.update(schedule.id, {"end_behavior": "cancel"})
        assert on_pro.subscription().cancel_at == int(MAY.timestamp())

        resume(on_pro.organization)

        assert (on_pro.subscription().cancel_at, on_pro.subscription().schedule) == (None, None)

    def test_a_scheduled_downgrade_is_not_touched(self, acme, plans):
        acme.subscribe(plans.team)
        change_plan(acme.organization, plan=plans.pro)

        resume(acme.organization)

        assert find_standing(acme.organization).scheduled_change.plan == plans.pro


class TestNow:
    def test_what_is_left_of_the_fee_becomes_credit(self, on_pro, plans):
        preview = preview_cancel_now(on_pro.organization)

        cancel_now(on_pro.organization)

        # 2900 × 20/30 = 1933.33.
        assert (preview.amount_due, preview.currency) == (0, "usd")
        assert [line.amount for line in preview.lines] == [0, -1933, 1933]
        assert (on_pro.balance(), on_pro.last_invoice().total) == (-1933, -1933)
        assert (on_pro.subscription().status, on_pro.entitlement().plan) == ("canceled", plans.free)
        assert find_standing(on_pro.organization) is None

    def test_what_was_used_is_invoiced(self, on_pro, plans):
        on_pro.bill_overage(plans.team, included=100, cents="250")
        change_plan(on_pro.organization, plan=plans.team)
        on_pro.wait(days=5)
        on_pro.use(137)

        preview = preview_cancel_now(on_pro.organization)
        cancel_now(on_pro.organization)

        # 37 units at 250 cents, less what is left of 6600 after 5 of 20 days: 9250 - 4950.
        assert preview.amount_due == 4300 == sum(line.amount for line in preview.lines)
        assert on_pro.last_invoice().amount_paid == 4300
        assert on_pro.invoiced_units() == 137

    def test_again_it_changes_nothing(self, on_pro):
        for _ in range(3):
            cancel_now(on_pro.organization)

        assert len(on_pro.invoices()) == 2

    def test_a_last_invoice_that_cannot_be_collected_stays_open(self, on_pro, plans):
        on_pro.bill_overage(plans.team, included=100, cents="250")
        change_plan(on_pro.organization, plan=plans.team)
        on_pro.wait(days=5)
        on_pro.use(137)
        on_pro.pay_with(FAILS)

        cancel_now(on_pro.organization)

        assert (on_pro.subscription().status, on_pro.entitlement().plan) == ("canceled", plans.free)
        assert (on_pro.last_invoice().status, on_pro.last_invoice().amount_remaining) == ("open", 4300)

    def test_a_trial_ends_without_an_invoice(self, acme, plans):
        acme.subscribe(plans.pro, trial_period_days=14)
        acme.use(50)

        assert preview_cancel_now(acme.organization).lines == []
        cancel_now(acme.organization)

        assert (acme.subscription().status, acme.entitlement().plan) == ("canceled", plans.free)
        assert [each.total for each in acme.invoices()] == [0]

    def test_a_first_payment_that_never_came_is_not_owed(self, acme, plans):
        acme.subscribe(plans.pro, payment_behavior="default_incomplete")

        assert preview_cancel_now(acme.organization).amount_due == 0
        cancel_now(acme.organization)

        assert acme.subscription().status in {"canceled", "incomplete_expired"}
        assert [each.status for each in acme.invoices()] == ["void"]
        assert find_standing(acme.organization) is None

    def test_an_upgrade_that_waits_for_payment_cannot_be_paid_any_more(self, on_pro, plans):
        on_pro.pay_with(CHALLENGES)
        change_plan(on_pro.organization, plan=plans.team)

        cancel_now(on_pro.organization)

        assert [each.status for each in on_pro.invoices()] == ["paid", "void", "paid"]

    def test_a_scheduled_change_ends_with_it(self, acme, plans):
        acme.subscribe(plans.team)
        change_plan(acme.organization, plan=plans.pro)
        acme.wait(days=1)

        cancel_now(acme.organization)

        schedule = acme.api.subscription_schedules.list({"customer": acme.customer_id}).data[0]
        assert (acme.subscription().status, schedule.status) == ("canceled", "canceled")

    def test_one_that_is_set_to_end_can_end_now(self, on_pro):
        cancel_at_period_end(on_pro.organization)
        cancel_now(on_pro.organization)

        assert on_pro.subscription().status == "canceled"
        with pytest.raises(NoSubscription):
            cancel_at_period_end(on_pro.organization)

    def test_usage_that_cannot_be_added_up_now_is_not_thrown_away(self, on_pro, plans, monkeypatch):
        def unreachable():
            raise Unreachable

        with monkeypatch.context() as patch:
            patch.setattr(stream, "last_id", unreachable)
            with pytest.raises(UsageNotReported, match="try again"):
                cancel_now(on_pro.organization)
        assert (on_pro.subscription().status, on_pro.entitlement().plan) == ("active", plans.pro)

        cancel_now(on_pro.organization)
        assert on_pro.subscription().status == "canceled"

    def test_the_free_quota_is_not_used_up_by_what_was_used_before(self, on_pro, plans):
        on_pro.use(500)
        cancel_now(on_pro.organization)

        entitlement = on_pro.entitlement()
        assert entitlement.plan == plans.free
        assert entitlement.period_start == MAY - timedelta(days=20)
        assert entitlement.carried_from == []

    def test_whoever_never_subscribed_has_nothing_to_cancel(self, acme, sandbox, organization):
        for look in (cancel_now, preview_cancel_now, resume):
            with pytest.raises(NoSubscription):
                look(organization)
