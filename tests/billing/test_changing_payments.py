"""Upgrades whose payment is declined, or wants the customer's bank: nothing is granted before it is paid."""

from datetime import UTC, datetime

import pytest

from billing.errors import ChangeRefused, PaymentDeclined
from billing.standing import find_standing
from billing.stripe import changing
from billing.stripe.changing import change_plan, undo_change
from tests.billing.acme import CHALLENGES, FAILS, prices_of

pytestmark = pytest.mark.django_db

MAY = datetime(2026, 5, 1, tzinfo=UTC)


class TestDeclined:
    def test_all_is_as_before(self, on_pro, plans):
        before = on_pro.prices()
        on_pro.pay_with(FAILS)

        with pytest.raises(PaymentDeclined, match=r"Your card was declined\.") as declined:
            change_plan(on_pro.organization, plan=plans.team)

        assert declined.value.decline_code == "generic_decline"
        assert (on_pro.prices(), on_pro.entitlement().plan) == (before, plans.pro)
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
        assert (on_pro.last_invoice().amount_paid, on_pro.entitlement().plan) == (4667, plans.team)

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
        assert (waiting.entitlement().plan, waiting.prices()) == (plans.pro, prices_of(plans.pro))
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

        assert (waiting.entitlement().plan, waiting.prices()) == (plans.team, prices_of(plans.team))
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
        assert waiting.entitlement().plan == plans.pro

    def test_paid_for_in_the_moment_it_is_undone_it_stays(self, waiting, plans, monkeypatch):
        give_up = changing.give_up

        def paid_first(subscription):
            waiting.confirm(waiting.url)
            return give_up(subscription)

        monkeypatch.setattr(changing, "give_up", paid_first)
        with pytest.raises(ChangeRefused) as refused:
            undo_change(waiting.organization)

        assert refused.value.code == "already_paid"
        assert waiting.entitlement().plan == plans.team

    def test_after_23_hours_it_has_run_out(self, waiting, plans):
        waiting.wait(hours=23)
        waiting.see()

        assert waiting.last_invoice().status == "void"
        assert (waiting.entitlement().plan, find_standing(waiting.organization).pending_upgrade) == (
            plans.pro,
            None,
        )
        again = change_plan(waiting.organization, plan=plans.team)
        assert again.state == "requires_action"
        assert again.payment_url != waiting.url

    def test_refused_by_the_bank_it_still_waits(self, waiting, plans):
        waiting.confirm(waiting.url, result="fail")
        waiting.see()

        assert waiting.entitlement().plan == plans.pro
        with pytest.raises(PaymentDeclined):
            change_plan(waiting.organization, plan=plans.team)
        assert waiting.last_invoice().status == "void"
