"""Changes of plan: what is charged, what is granted and when, and what is left when it fails."""

from datetime import UTC, datetime

import pytest

from accounts.models import Organization
from billing.entitlements import current_entitlement
from billing.errors import ChangeRefused, NoSubscription, NotPublished, PaymentDeclined, PreviewOutdated
from billing.models import Meter, Plan, PlanPrice, PlanQuota
from billing.standing import find_standing
from billing.stripe import changing
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.ending import cancel_at_period_end
from billing.stripe.previewing import preview_change
from tests.billing.acme import CHALLENGES, FAILS

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 1, tzinfo=UTC)


def prices_of(plan, interval="month"):
    return {price.stripe_price_id for price in plan.offered_prices(interval=interval)}


def granted(acme):
    return current_entitlement(acme.organization).plan


def schedules(acme, status=None):
    listed = acme.api.subscription_schedules.list({"customer": acme.customer_id}).data
    return [each for each in listed if status in (None, each.status)]


@pytest.fixture
def on_pro(acme, plans):
    acme.subscribe(plans.pro)
    acme.wait(days=10)
    return acme


@pytest.fixture
def on_team(acme, plans):
    acme.subscribe(plans.team)
    acme.wait(days=10)
    return acme


class TestUpgrade:
    def test_it_is_charged_and_granted_at_once(self, on_pro, plans):
        outcome = change_plan(on_pro.organization, plan=plans.team)

        assert (outcome.state, outcome.payment_url) == ("done", "")
        assert on_pro.prices() == prices_of(plans.team)
        assert [(each.status, each.amount_paid) for each in on_pro.invoices()] == [
            ("paid", 2900),
            ("paid", 4667),
        ]
        entitlement = current_entitlement(on_pro.organization)
        assert (entitlement.plan, entitlement.find_quota("requests")) == (plans.team, 100_000)
        assert on_pro.subscription().metadata["tollgate_plan"] == "team"

    def test_what_was_shown_is_charged_minutes_later(self, on_pro, plans):
        preview = preview_change(on_pro.organization, plan=plans.team)
        on_pro.wait(minutes=29)

        change_plan(on_pro.organization, plan=plans.team, token=preview.token)

        # Reckoned from now it would be 4664: 2900 × 1,726,260/2,592,000 s = 1931, 9900 × … = 6593.
        assert on_pro.last_invoice().amount_paid == preview.amount_due == 4667

    def test_sent_twice_it_is_charged_once(self, on_pro, plans):
        preview = preview_change(on_pro.organization, plan=plans.team)

        for token in (preview.token, preview.token, None):
            assert change_plan(on_pro.organization, plan=plans.team, token=token).state == "done"

        assert len(on_pro.invoices()) == 2

    def test_items_of_a_meter_that_only_one_plan_has_come_and_go(self, on_pro, plans):
        tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
        PlanQuota.objects.create(plan=plans.team, meter=tokens, included=500)
        PlanPrice.objects.create(plan=plans.team, meter=tokens)
        on_pro.publish()

        change_plan(on_pro.organization, plan=plans.team)
        assert on_pro.prices() == prices_of(plans.team)
        assert len(on_pro.prices()) == 3

        change_plan(on_pro.organization, plan=plans.pro)
        on_pro.wait_until(MAY)
        assert on_pro.prices() == prices_of(plans.pro)

    def test_what_is_not_of_the_catalogue_stays(self, on_pro, plans):
        product = on_pro.api.products.create({"name": "Support"})
        support = on_pro.api.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": 1000,
                "recurring": {"interval": "month"},
            }
        )
        on_pro.api.subscriptions.update(
            on_pro.subscription_id, {"items": [{"price": support.id, "quantity": 3}]}
        )

        change_plan(on_pro.organization, plan=plans.team)
        assert on_pro.prices() == {*prices_of(plans.team), support.id}

        change_plan(on_pro.organization, plan=plans.pro)
        on_pro.wait_until(MAY)
        assert on_pro.prices() == {*prices_of(plans.pro), support.id}
        assert {
            item["quantity"] for item in on_pro.subscription()["items"]["data"] if "quantity" in item
        } == {1, 3}

    def test_a_scheduled_downgrade_gives_way_to_it(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)

        assert change_plan(on_team.organization, plan=plans.enterprise).state == "done"

        assert on_team.subscription().schedule is None
        on_team.wait_until(MAY)
        assert on_team.prices() == prices_of(plans.enterprise)

    def test_of_two_plans_in_the_same_place_the_dearer_one_is_the_upgrade(self, on_pro, plans):
        Plan.objects.filter(pk=plans.team.pk).update(order=plans.pro.order)
        plans.team.refresh_from_db()

        assert change_plan(on_pro.organization, plan=plans.team).state == "done"
        assert change_plan(on_pro.organization, plan=plans.pro).state == "scheduled"

    def test_whoever_pays_by_invoice_is_trusted(self, acme, plans):
        acme.subscribe(plans.pro, card=None, collection_method="send_invoice", days_until_due=30)
        acme.wait(days=10)

        assert change_plan(acme.organization, plan=plans.team).state == "done"

        assert granted(acme) == plans.team
        assert [each.status for each in acme.invoices()] == ["open", "open"]


class TestPreviewAgreed:
    def outdated(self, acme, plan, token):
        with pytest.raises(PreviewOutdated):
            change_plan(acme.organization, plan=plan, token=token)
        assert len(acme.invoices()) == 1
        return True

    def test_another_amount_is_asked_for_anew(self, on_pro, plans):
        token = preview_change(on_pro.organization, plan=plans.team).token
        on_pro.api.customers.balance_transactions.create(
            on_pro.customer_id, {"amount": 500, "currency": "usd"}
        )

        assert self.outdated(on_pro, plans.team, token)

    def test_a_discount_given_meanwhile_is_shown_first(self, on_pro, plans):
        token = preview_change(on_pro.organization, plan=plans.team).token
        coupon = on_pro.api.coupons.create({"percent_off": 50, "duration": "forever"})
        on_pro.api.subscriptions.update(on_pro.subscription_id, {"discounts": [{"coupon": coupon.id}]})

        assert self.outdated(on_pro, plans.team, token)

    def test_it_is_good_for_half_an_hour(self, on_pro, plans):
        token = preview_change(on_pro.organization, plan=plans.team).token
        on_pro.wait(minutes=31)

        assert self.outdated(on_pro, plans.team, token)

    def test_it_is_good_for_what_was_shown_only(self, on_pro, plans, outsider):
        token = preview_change(on_pro.organization, plan=plans.team).token

        assert self.outdated(on_pro, plans.enterprise, token)
        assert self.outdated(on_pro, plans.team, token + "x")
        with pytest.raises(PreviewOutdated):
            change_plan(Organization.objects.get(name="Rival"), plan=plans.team, token=token)
        with pytest.raises(PreviewOutdated):
            change_plan(on_pro.organization, plan=plans.team, interval="year", token=token)

    def test_a_new_price_published_meanwhile_is_shown_first(self, on_team, plans):
        token = preview_change(on_team.organization, plan=plans.pro).token
        PlanPrice.objects.filter(plan=plans.pro, meter=None, interval="month").update(unit_amount=3900)
        on_team.publish()

        assert self.outdated(on_team, plans.pro, token)
        assert on_team.subscription().schedule is None

    def test_a_trial_that_ended_meanwhile_is_no_longer_free(self, acme, plans):
        acme.subscribe(plans.pro, trial_period_days=14)
        acme.wait(days=13, hours=23, minutes=50)
        token = preview_change(acme.organization, plan=plans.team).token
        acme.wait(minutes=15)

        with pytest.raises(PreviewOutdated):
            change_plan(acme.organization, plan=plans.team, token=token)
        assert acme.prices() == prices_of(plans.pro)

    def test_usage_meanwhile_does_not_outdate_it(self, on_pro, plans):
        on_pro.bill_overage(plans.pro, included=100, cents="2.5")
        on_pro.api.subscriptions.cancel(on_pro.subscription_id)
        on_pro.subscribe(plans.pro)
        on_pro.wait(days=10)
        on_pro.use(301)
        preview = preview_change(on_pro.organization, plan=plans.team)
        on_pro.wait(minutes=5)
        on_pro.use(40)

        change_plan(on_pro.organization, plan=plans.team, token=preview.token)

        # The 40 units at 2.5 cents are owed whatever the customer decides.
        assert on_pro.last_invoice().amount_paid == preview.amount_due + 100
        assert on_pro.invoiced_units() == 341


class TestDeclined:
    def test_all_is_as_before(self, on_pro, plans):
        before = on_pro.prices()
        on_pro.pay_with(FAILS)

        with pytest.raises(PaymentDeclined, match=r"Your card was declined\.") as declined:
            change_plan(on_pro.organization, plan=plans.team)

        assert declined.value.decline_code == "generic_decline"
        assert (on_pro.prices(), granted(on_pro)) == (before, plans.pro)
        subscription = on_pro.subscription()
        assert (subscription.status, subscription.pending_update) == ("active", None)
        assert on_pro.last_invoice().status == "void"
        standing = find_standing(on_pro.organization)
        assert (standing.pending_upgrade, standing.open_invoice) == (None, None)

    def test_credit_on_account_comes_back(self, on_pro, plans):
        on_pro.api.customers.balance_transactions.create(
            on_pro.customer_id, {"amount": -1000, "currency": "usd"}
        )
        on_pro.pay_with(FAILS)

        with pytest.raises(PaymentDeclined):
            change_plan(on_pro.organization, plan=plans.team)

        assert on_pro.balance() == -1000

    def test_a_better_card_upgrades(self, on_pro, plans):
        on_pro.pay_with(FAILS)
        with pytest.raises(PaymentDeclined):
            change_plan(on_pro.organization, plan=plans.team)
        on_pro.pay_with("pm_card_visa")

        assert change_plan(on_pro.organization, plan=plans.team).state == "done"
        assert (on_pro.last_invoice().amount_paid, granted(on_pro)) == (4667, plans.team)

    def test_without_any_card_it_says_so(self, acme, plans):
        acme.subscribe(plans.pro)
        acme.wait(days=10)
        method = acme.api.customers.retrieve(acme.customer_id).invoice_settings.default_payment_method
        acme.api.payment_methods.detach(method)

        with pytest.raises(PaymentDeclined, match="no payment method"):
            change_plan(acme.organization, plan=plans.team)
        assert acme.last_invoice().status == "void"

    def test_a_scheduled_downgrade_is_scheduled_still(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)
        on_team.pay_with(FAILS)

        with pytest.raises(PaymentDeclined):
            change_plan(on_team.organization, plan=plans.enterprise)

        assert find_standing(on_team.organization).scheduled_change.plan == plans.pro
        on_team.pay_with("pm_card_visa")
        on_team.wait_until(MAY)
        assert on_team.prices() == prices_of(plans.pro)

    def test_a_try_that_broke_off_before_it_was_taken_back_is_taken_back_by_the_next(self, on_pro, plans):
        on_pro.pay_with(FAILS)
        leave_declined(on_pro, plans.team)

        with pytest.raises(PaymentDeclined, match=r"Your card was declined\."):
            change_plan(on_pro.organization, plan=plans.team)
        assert [each.status for each in on_pro.invoices()] == ["paid", "void"]

    def test_after_such_a_try_a_better_card_upgrades(self, on_pro, plans):
        on_pro.pay_with(FAILS)
        leave_declined(on_pro, plans.team)
        on_pro.pay_with("pm_card_visa")

        assert change_plan(on_pro.organization, plan=plans.team).state == "done"
        assert [each.status for each in on_pro.invoices()] == ["paid", "void", "paid"]


def leave_declined(acme, plan):
    """Ask Stripe for an upgrade that is declined, and go away."""
    fee = acme.subscription()["items"]["data"][0]
    acme.api.subscriptions.update(
        acme.subscription_id,
        {
            "items": [{"id": fee.id, "price": plan.find_base_price().stripe_price_id}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        },
    )


class TestConfirmation:
    @pytest.fixture
    def waiting(self, on_pro, plans):
        """An upgrade from Pro to Team that the customer's bank wants confirmed; `url` is where."""
        on_pro.pay_with(CHALLENGES)
        outcome = change_plan(on_pro.organization, plan=plans.team)
        assert outcome.state == "requires_action"
        on_pro.url = outcome.payment_url
        return on_pro

    def test_nothing_is_granted_before(self, waiting, plans):
        assert (granted(waiting), waiting.prices()) == (plans.pro, prices_of(plans.pro))
        pending = find_standing(waiting.organization).pending_upgrade
        assert (pending.plan, pending.interval, pending.amount) == (plans.team, "month", 4667)
        assert (pending.payment_url, pending.expires_at) == (
            waiting.url,
            datetime(2026, 4, 11, 23, tzinfo=UTC),
        )
        assert find_standing(waiting.organization).open_invoice is None

    def test_it_is_granted_when_paid(self, waiting, plans):
        waiting.wait(hours=5)
        waiting.confirm(waiting.url)
        waiting.see()

        assert (granted(waiting), waiting.prices()) == (plans.team, prices_of(plans.team))
        assert waiting.last_invoice().amount_paid == 4667
        assert find_standing(waiting.organization).pending_upgrade is None

    def test_asked_again_it_is_the_same_page(self, waiting, plans):
        again = change_plan(waiting.organization, plan=plans.team)

        assert (again.state, again.payment_url) == ("requires_action", waiting.url)
        assert len(waiting.invoices()) == 2

    def test_another_plan_takes_its_place(self, waiting, plans):
        again = change_plan(waiting.organization, plan=plans.enterprise)

        assert again.state == "requires_action"
        assert again.payment_url != waiting.url
        assert [each.status for each in waiting.invoices()] == ["paid", "void", "open"]

    def test_a_downgrade_takes_its_place(self, waiting, plans):
        assert change_plan(waiting.organization, plan=plans.free).state == "scheduled"

        assert waiting.last_invoice().status == "void"
        assert waiting.subscription().pending_update is None

    def test_undone_it_can_no_longer_be_paid(self, waiting, plans):
        for _ in range(2):
            undo_change(waiting.organization)

        assert waiting.last_invoice().status == "void"
        assert find_standing(waiting.organization).pending_upgrade is None
        waiting.see()
        assert granted(waiting) == plans.pro

    def test_paid_for_in_the_moment_it_is_undone_it_stays(self, waiting, plans, monkeypatch):
        give_up = changing.give_up

        def paid_first(subscription):
            waiting.confirm(waiting.url)
            return give_up(subscription)

        monkeypatch.setattr(changing, "give_up", paid_first)
        with pytest.raises(ChangeRefused) as refused:
            undo_change(waiting.organization)

        assert refused.value.code == "already_paid"
        assert granted(waiting) == plans.team

    def test_after_23_hours_it_has_run_out(self, waiting, plans):
        waiting.wait(hours=23)
        waiting.see()

        assert waiting.last_invoice().status == "void"
        assert (granted(waiting), find_standing(waiting.organization).pending_upgrade) == (plans.pro, None)
        again = change_plan(waiting.organization, plan=plans.team)
        assert again.state == "requires_action"
        assert again.payment_url != waiting.url

    def test_refused_by_the_bank_it_still_waits(self, waiting, plans):
        waiting.confirm(waiting.url, result="fail")
        waiting.see()

        assert granted(waiting) == plans.pro
        with pytest.raises(PaymentDeclined):
            change_plan(waiting.organization, plan=plans.team)
        assert waiting.last_invoice().status == "void"


class TestDowngrade:
    def test_it_comes_at_the_period_s_end_and_nothing_before(self, on_team, plans):
        assert change_plan(on_team.organization, plan=plans.pro).state == "scheduled"

        scheduled = find_standing(on_team.organization).scheduled_change
        assert (scheduled.plan, scheduled.interval, scheduled.at) == (plans.pro, "month", MAY)
        assert (granted(on_team), on_team.prices()) == (plans.team, prices_of(plans.team))
        on_team.wait_until(MAY)
        on_team.wait(hours=2)
        on_team.see()
        assert (granted(on_team), on_team.prices()) == (plans.pro, prices_of(plans.pro))
        assert [each.amount_paid for each in on_team.invoices()] == [9900, 2900]
        assert on_team.subscription().metadata["tollgate_plan"] == "pro"
        assert find_standing(on_team.organization).scheduled_change is None

    def test_afterwards_it_renews_by_itself(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.pro)
        on_team.wait(days=90)

        assert [each.amount_paid for each in on_team.invoices()] == [9900, 2900, 2900, 2900]
        assert [each.status for each in schedules(on_team)] == ["released"]

    def test_asked_for_twice_it_is_one_schedule(self, on_team, plans):
        for _ in range(2):
            assert change_plan(on_team.organization, plan=plans.pro).state == "scheduled"

        assert len(schedules(on_team)) == 1

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

        assert len(schedules(acme)) == 1
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
        assert len(schedules(on_team)) == 1

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

        assert len(schedules(acme)) == 1
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
        assert (on_team.subscription().status, granted(on_team)) == ("canceled", plans.free)

    def test_leaving_for_the_free_plan_can_be_taken_back(self, on_team, plans):
        change_plan(on_team.organization, plan=plans.free)
        undo_change(on_team.organization)

        assert find_standing(on_team.organization).cancels_at is None
        on_team.wait_until(MAY)
        assert on_team.subscription().status == "active"


class TestTrial:
    def test_any_change_is_made_at_once_for_nothing(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)
        acme.wait(days=3)
        end = acme.subscription().trial_end

        for plan, interval in ((plans.pro, "month"), (plans.pro, "year"), (plans.team, "month")):
            assert change_plan(acme.organization, plan=plan, interval=interval).state == "done"
            assert acme.prices() == prices_of(plan, interval)
            assert granted(acme) == plan

        assert (acme.subscription().status, acme.subscription().trial_end) == ("trialing", end)
        assert [each.total for each in acme.invoices()] == [0]

    def test_sent_twice_it_is_done(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)

        for _ in range(2):
            assert change_plan(acme.organization, plan=plans.pro).state == "done"

    def test_leaving_ends_it_with_the_trial(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)

        assert change_plan(acme.organization, plan=plans.free).state == "scheduled"

        acme.wait(days=14)
        acme.see()
        assert granted(acme) == plans.free
        assert [each.total for each in acme.invoices()] == [0]


class TestRefusals:
    def refused(self, acme, plan, **more):
        with pytest.raises(ChangeRefused) as refused:
            change_plan(acme.organization, plan=plan, **more)
        return refused.value.code

    def test_an_organization_without_a_subscription_subscribes_instead(self, acme, plans):
        with pytest.raises(NoSubscription):
            change_plan(acme.organization, plan=plans.pro)
        acme.subscribe(plans.pro)
        acme.api.subscriptions.cancel(acme.subscription_id)
        with pytest.raises(NoSubscription):
            change_plan(acme.organization, plan=plans.team)

    def test_nothing_would_change(self, on_pro, plans):
        assert self.refused(on_pro, plans.pro) == "nothing_changes"

    def test_a_plan_held_for_long_is_no_change_after_an_upgrade_either(self, on_pro, plans):
        change_plan(on_pro.organization, plan=plans.team)
        on_pro.wait(hours=2)

        assert self.refused(on_pro, plans.team) == "nothing_changes"

    def test_an_overdue_payment_comes_first(self, acme, plans):
        acme.subscribe(plans.pro)
        acme.pay_with(FAILS)
        acme.wait(days=30, hours=2)
        assert acme.subscription().status == "past_due"

        assert self.refused(acme, plans.team) == "payment_overdue"
        assert self.refused(acme, plans.free) == "payment_overdue"

    def test_a_first_payment_comes_first(self, acme, plans):
        acme.subscribe(plans.pro, payment_behavior="default_incomplete")

        assert self.refused(acme, plans.team) == "incomplete"

    def test_a_paused_one_is_resumed_first(self, acme, plans):
        acme.subscribe(
            plans.pro,
            card=None,
            trial_period_days=3,
            trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
        )
        acme.wait(days=3)

        assert self.refused(acme, plans.team) == "paused"

    def test_where_staff_paused_collecting_no_change_is_sold(self, on_pro, plans):
        on_pro.api.subscriptions.update(on_pro.subscription_id, {"pause_collection": {"behavior": "void"}})

        assert self.refused(on_pro, plans.team) == "paused"

    def test_while_stripe_renews_it_a_change_has_to_wait(self, on_pro, plans):
        # Our clock has reached the period's end, and Stripe has not.
        on_pro.hands.move(MAY)

        assert self.refused(on_pro, plans.team) == "renewing"
        assert self.refused(on_pro, plans.enterprise) == "renewing"

    def test_a_plan_just_bought_is_no_change_where_another_one_is_scheduled(self, on_pro, plans):
        change_plan(on_pro.organization, plan=plans.team)
        change_plan(on_pro.organization, plan=plans.pro)

        assert self.refused(on_pro, plans.team) == "nothing_changes"

    def test_one_that_is_set_to_end_is_resumed_first(self, on_pro, plans):
        cancel_at_period_end(on_pro.organization)

        assert self.refused(on_pro, plans.team) == "set_to_end"

    def test_a_price_that_is_not_published_is_not_sold(self, on_pro, plans):
        PlanPrice.objects.filter(plan=plans.team, meter=None).update(unit_amount=9901)

        with pytest.raises(NotPublished):
            change_plan(on_pro.organization, plan=plans.team)
        assert len(on_pro.invoices()) == 1

    def test_a_currency_is_not_changed_with_the_plan(self, acme, plans):
        for slug, cents in (("pro", 2700), ("requests", 0)):
            meter = Meter.objects.filter(slug=slug).first()
            PlanPrice.objects.create(plan=plans.pro, meter=meter, unit_amount=cents, currency="eur")
        acme.publish()
        prices = plans.pro.offered_prices(currency="eur")
        acme.subscribe(plans.pro, items=[{"price": price.stripe_price_id} for price in prices])

        with pytest.raises(NotPublished, match="EUR"):
            change_plan(acme.organization, plan=plans.team)
