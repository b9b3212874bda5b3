"""Changes that come at the period's end, and what goes on until then and after."""

from datetime import UTC, datetime

import pytest

from billing.standing import find_standing
from billing.stripe.changing import change_plan, undo_change
from tests.billing.acme import prices_of

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 1, tzinfo=UTC)


class TestDowngrade:
    def test_it_comes_at_the_period_s_end_and_nothing_before(self, on_team, plans):
        assert change_plan(on_team.organization, plan=plans.pro).state == "scheduled"

        scheduled = find_standing(on_team.organization).scheduled_change
        assert (scheduled.plan, scheduled.interval, scheduled.at) == (plans.pro, "month", MAY)
        assert (on_team.entitlement().plan, on_team.prices()) == (plans.team, prices_of(plans.team))
        on_team.wait_until(MAY)
        on_team.wait(hours=2)
        on_team.see()
        assert (on_team.entitlement().plan, on_team.prices()) == (plans.pro, prices_of(plans.pro))
        assert [each.amount_paid for each in on_team.invoices()] == [9900, 2900]
        assert on_team.subscription().metadata["tollgate_plan"] == "pro"
        assert find_standing(on_team.organization).scheduled_change is None

    def test_afterwards_it_renews_by_itself(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)
        on_team.wait(days=90)

        assert [each.amount_paid for each in on_team.invoices()] == [9900, 2900, 2900, 2900]
        assert [each.status for each in on_team.schedules()] == ["released"]

    def test_asked_for_twice_it_is_one_schedule(self, on_team, plans):
        for _ in range(2):
            assert change_plan(on_team.organization, plan=plans.pro).state == "scheduled"

        assert len(on_team.schedules()) == 1

    def test_it_can_be_taken_back(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)
        for _ in range(2):
            undo_change(on_team.organization)

        assert find_standing(on_team.organization).scheduled_change is None
        on_team.wait_until(MAY)
        assert on_team.prices() == prices_of(plans.team)

    def test_it_can_become_another_one(self, acme, plans):
        acme.subscribe(plans.enterprise)
        change_plan(acme.organization, plan=plans.team)
        change_plan(acme.organization, plan=plans.pro)

        assert len(acme.schedules()) == 1
        assert find_standing(acme.organization).scheduled_change.plan == plans.pro
        acme.wait_until(MAY)
        assert acme.prices() == prices_of(plans.pro)

    @pytest.mark.parametrize("finish", ["again", "undone"])
    def test_a_schedule_left_half_made_is_finished_or_taken_back(self, on_team, plans, finish):
        on_team.api.subscription_schedules.create({"from_subscription": on_team.subscription_id})

        if finish == "again":
            change_plan(on_team.organization, plan=plans.pro)
        else:
            undo_change(on_team.organization)

        on_team.wait_until(MAY)
        assert on_team.prices() == prices_of(plans.pro if finish == "again" else plans.team)
        assert len(on_team.schedules()) == 1

    def test_discounts_go_on_as_if_nothing_had_changed(self, acme, plans):
        coupon = acme.api.coupons.create(
            {"percent_off": 20, "duration": "repeating", "duration_in_months": 2}
        )
        acme.subscribe(plans.team, discounts=[{"coupon": coupon.id}])
        held = acme.subscription().discounts
        acme.wait(days=10)

        change_plan(acme.organization, plan=plans.pro)

        assert acme.subscription().discounts == held
        acme.wait_until(MAY)
        assert acme.subscription().discounts == held
        acme.wait(days=32)
        # 9900 and 2900 less 20 %, then the coupon's two months are over.
        assert [each.amount_paid for each in acme.invoices()] == [7920, 2320, 2900]

    def test_a_discount_of_the_fee_alone_goes_on_too(self, acme, plans):
        coupon = acme.api.coupons.create({"percent_off": 50, "duration": "forever"})
        fee, metered = plans.team.offered_prices()
        acme.subscribe(
            plans.team,
            items=[
                {"price": fee.stripe_price_id, "discounts": [{"coupon": coupon.id}]},
                {"price": metered.stripe_price_id},
            ],
        )

        change_plan(acme.organization, plan=plans.pro)
        acme.wait(days=30, hours=2)

        assert [each.amount_paid for each in acme.invoices()] == [4950, 1450]

    def test_a_card_replaced_meanwhile_stays(self, acme, plans):
        old = acme.pay_with("pm_card_visa")
        acme.subscribe(plans.team, card=None, default_payment_method=old)
        change_plan(acme.organization, plan=plans.pro)
        new = acme.pay_with("pm_card_mastercard")
        acme.api.subscriptions.update(acme.subscription_id, {"default_payment_method": new})

        acme.wait(days=30, hours=2)

        assert acme.subscription().default_payment_method == new

    def test_once_it_has_come_the_next_change_is_as_usual(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)
        on_team.wait_until(MAY)
        on_team.wait(days=3)
        # Its schedule lasts until June.
        assert on_team.subscription().schedule

        assert change_plan(on_team.organization, plan=plans.team).state == "done"
        assert on_team.prices() == prices_of(plans.team)
        change_plan(on_team.organization, plan=plans.pro)
        on_team.wait_until(datetime(2026, 6, 1, tzinfo=UTC))
        assert on_team.prices() == prices_of(plans.pro)

    def test_once_it_has_come_another_downgrade_takes_the_schedule_over(self, acme, plans):
        acme.subscribe(plans.enterprise)
        change_plan(acme.organization, plan=plans.team)
        acme.wait_until(MAY)
        acme.wait(days=3)

        assert change_plan(acme.organization, plan=plans.pro).state == "scheduled"

        assert len(acme.schedules()) == 1
        acme.wait_until(datetime(2026, 6, 1, tzinfo=UTC))
        assert acme.prices() == prices_of(plans.pro)

    def test_a_yearly_plan_lasts_until_the_year_is_over(self, acme, plans):
        acme.subscribe(plans.team, interval="year")
        acme.wait(days=45)

        change_plan(acme.organization, plan=plans.pro, interval="month")

        acme.wait_until(datetime(2027, 3, 31, 23, tzinfo=UTC))
        assert acme.prices() == prices_of(plans.team, "year")
        acme.wait(hours=3)
        assert acme.prices() == prices_of(plans.pro)
        assert [each.amount_paid for each in acme.invoices() if each.amount_paid] == [99_000, 2900]

    def test_from_year_to_month_on_the_same_plan_is_one(self, acme, plans):
        acme.subscribe(plans.pro, interval="year")

        assert change_plan(acme.organization, plan=plans.pro, interval="month").state == "scheduled"

        acme.wait_until(datetime(2027, 4, 1, 2, tzinfo=UTC))
        assert acme.prices() == prices_of(plans.pro)

    def test_to_the_free_plan_it_ends_the_subscription(self, on_team, plans):
        for _ in range(2):
            assert change_plan(on_team.organization, plan=plans.free).state == "scheduled"

        assert find_standing(on_team.organization).cancels_at == MAY
        on_team.wait_until(MAY)
        on_team.see()
        assert (on_team.subscription().status, on_team.entitlement().plan) == ("canceled", plans.free)

    def test_leaving_for_the_free_plan_can_be_taken_back(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.free)
        undo_change(on_team.organization)

        assert find_standing(on_team.organization).cancels_at is None
        on_team.wait_until(MAY)
        assert on_team.subscription().status == "active"
