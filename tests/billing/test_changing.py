"""Changes of plan: what is charged, what is granted and when, and what is left when it fails."""

from datetime import UTC, datetime

import pytest

from accounts.models import Organization
from billing.errors import ChangeRefused, NoSubscription, NotPublished, PreviewOutdated
from billing.models import Meter, Plan, PlanPrice, PlanQuota
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_at_period_end
from billing.stripe.previewing import preview_change
from tests.billing.acme import FAILS, prices_of

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 1, tzinfo=UTC)


class TestUpgrade:
    def test_it_is_charged_and_granted_at_once(self, on_pro, plans):
        outcome = change_plan(on_pro.organization, plan=plans.team)

        assert (outcome.state, outcome.payment_url) == ("done", "")
        assert on_pro.prices() == prices_of(plans.team)
        assert [(each.status, each.amount_paid) for each in on_pro.invoices()] == [
            ("paid", 2900),
            ("paid", 4667),
        ]
        entitlement = on_pro.entitlement()
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

        assert acme.entitlement().plan == plans.team
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


class TestTrial:
    def test_any_change_is_made_at_once_for_nothing(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)
        acme.wait(days=3)
        end = acme.subscription().trial_end

        for plan, interval in ((plans.pro, "month"), (plans.pro, "year"), (plans.team, "month")):
            assert change_plan(acme.organization, plan=plan, interval=interval).state == "done"
            assert acme.prices() == prices_of(plan, interval)
            assert acme.entitlement().plan == plan

        assert (acme.subscription().status, acme.subscription().trial_end) == ("trialing", end)
        assert [each.total for each in acme.invoices()] == [0]

    def test_sent_twice_it_is_done(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)

        for _ in range(2):
            assert change_plan(acme.organization, plan=plans.pro).state == "done"

    def test_an_upgrade_after_a_trial_with_a_change_can_be_sent_twice_as_well(self, acme, plans):
        acme.subscribe(plans.enterprise, trial_period_days=14)
        change_plan(acme.organization, plan=plans.pro)
        acme.wait(days=15)

        for _ in range(2):
            assert change_plan(acme.organization, plan=plans.team).state == "done"
        assert len(acme.invoices()) == 3

    def test_leaving_ends_it_with_the_trial(self, acme, plans):
        acme.subscribe(plans.team, trial_period_days=14)

        assert change_plan(acme.organization, plan=plans.free).state == "scheduled"

        acme.wait(days=14)
        acme.see()
        assert acme.entitlement().plan == plans.free
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
