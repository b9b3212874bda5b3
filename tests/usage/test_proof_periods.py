"""Periods of every kind add up to the unit: cut by changes, in trials, free, yearly, to the 29th, 30th and 31st."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from accounts import clock
from billing.models import Meter, PlanPrice, PlanQuota
from billing.moves import go_on, order_move
from billing.stripe.catalog import publish_plan
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.customers import ensure_customer
from billing.stripe.ending import cancel_now
from tests.billing.acme import CHALLENGES
from tests.usage.cast import make_event
from tests.usage.outbox import use
from tests.usage.proving import APRIL, MAY, invoice_april, of_april, stop_paying
from tests.usage.test_flush import used_in_between
from usage.ledger import store
from usage.models import Proof
from usage.partitions import ensure_partition
from usage.proof import prove
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]
Status = Proof.Status


def settle(acme, until: datetime) -> list[Proof]:
    """Let time pass as the workers do, prove, and return the periods, the oldest first."""
    report_usage()
    acme.wait_until(until)
    acme.wait(hours=2)
    acme.see()
    report_usage()
    return prove(acme.organization)[::-1]


def figures(proof: Proof) -> tuple[int | None, ...]:
    return proof.ledger, proof.rollups, proof.reported, proof.stripe, proof.invoiced


class TestChangesOfPlan:
    def test_a_month_of_two_plans_is_the_sum_of_both_invoices(self, subscribed, plans):
        subscribed.use(130)
        with used_in_between(subscribed, 7):
            change_plan(subscribed.organization, plan=plans.team)
        subscribed.wait(minutes=10)
        subscribed.use(150)

        (april,) = settle(subscribed, MAY)

        assert (april.status, figures(april)) == (Status.PROVEN, (287,) * 5)

    def test_what_a_change_to_a_year_had_dated_after_it_counts_where_it_was_used(self, subscribed, plans):
        subscribed.use(130)
        with used_in_between(subscribed, 7):
            change_plan(subscribed.organization, plan=plans.pro, interval="year")
        subscribed.wait(minutes=10)
        subscribed.use(40)
        subscribed.see()
        change = clock.now() - timedelta(minutes=10)

        before, after = settle(subscribed, datetime(2026, 5, 12, tzinfo=UTC))

        assert (before.status, figures(before)) == (Status.PROVEN, (137,) * 5)
        assert (after.status, figures(after)) == (Status.PROVEN, (40,) * 5)
        assert before.period_end == after.period_start == change

    def test_while_the_year_s_first_month_runs_the_month_before_waits_for_its_rest(self, subscribed, plans):
        subscribed.use(130)
        with used_in_between(subscribed, 7):
            change_plan(subscribed.organization, plan=plans.pro, interval="year")
        subscribed.see()

        before, *_ = settle(subscribed, clock.now() + timedelta(days=1))

        assert before.status == Status.WAITING
        assert (before.reported, before.stripe, before.invoiced, before.to_invoice) == (137, 137, 130, 7)

    @pytest.mark.parametrize("fault", ["timeout_after", "timeout_before"])
    def test_what_was_dated_into_the_year_and_got_no_answer_is_nothing_that_stripe_has_too_much(
        self, subscribed, plans, sandbox, fault
    ):
        subscribed.use(130)
        with used_in_between(subscribed, 7):
            change_plan(subscribed.organization, plan=plans.pro, interval="year")
        subscribed.see()
        down = sandbox.faults.add(fault, path="/v1/billing/meter_events")
        report_usage()
        sandbox.faults.remove(down.id)
        subscribed.wait(days=1)
        subscribed.use(3)
        report_usage()

        year, month = prove(subscribed.organization)

        assert (month.status, month.unknown) == (Status.WAITING, 7)
        assert (year.status, year.reported) == (Status.RUNNING, 3)
        assert year.stripe == (10 if fault == "timeout_after" else 3)

    def test_changes_within_one_minute_are_told_apart(self, subscribed, plans):
        subscribed.use(10)
        change_plan(subscribed.organization, plan=plans.pro, interval="year")
        subscribed.wait(seconds=20)
        subscribed.see()
        subscribed.use(20)
        change_plan(subscribed.organization, plan=plans.team, interval="year")
        subscribed.wait(seconds=20)
        subscribed.see()
        subscribed.use(40)

        proofs = settle(subscribed, datetime(2026, 5, 12, tzinfo=UTC))

        assert [(each.status, each.ledger) for each in proofs] == [
            (Status.PROVEN, 10),
            (Status.PROVEN, 20),
            (Status.PROVEN, 40),
        ]
        assert {len(set(figures(each))) for each in proofs} == {1}

    @pytest.mark.parametrize("interval", ["month", "year"])
    def test_what_was_used_before_a_move_to_new_prices_waits_for_the_next_invoice(
        self, acme, plans, interval
    ):
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.subscribe(plans.pro, interval=interval)
        acme.bill_overage(plans.pro, included=100, cents="20")
        (row,) = order_move(plans.pro, author=None).rows.all()
        go_on(row)
        acme.wait_until(MAY + timedelta(minutes=2))
        acme.see()
        acme.use(50)
        go_on(row)
        acme.see()
        acme.use(60)

        waiting = settle(acme, MAY + timedelta(days=5))
        proven = settle(acme, datetime(2026, 6, 1, tzinfo=UTC))

        assert row.state == row.State.MOVED
        assert not [each for each in waiting if each.status == Status.DIFFERS]
        assert sum(each.to_invoice for each in waiting) == 110
        assert {each.status for each in proven} == {Status.PROVEN}
        assert sum(each.invoiced for each in proven) == 110

    @pytest.mark.parametrize("paid", [True, False])
    def test_an_upgrade_that_waits_for_the_customer(self, subscribed, plans, paid):
        subscribed.use(130)
        subscribed.pay_with(CHALLENGES)
        url = change_plan(subscribed.organization, plan=plans.team).payment_url
        subscribed.wait(minutes=10)
        subscribed.use(40)
        report_usage()
        if paid:
            subscribed.confirm(url)
        else:
            undo_change(subscribed.organization)
        subscribed.see()
        subscribed.pay_with("pm_card_visa")

        (april,) = settle(subscribed, MAY)

        assert (april.status, figures(april)) == (Status.PROVEN, (170,) * 5)

    def test_cancelled_at_once_all_is_on_the_last_invoice_and_the_rest_of_the_month_is_free(self, subscribed):
        subscribed.use(130)
        cancel_now(subscribed.organization)
        subscribed.see()
        subscribed.wait(days=1)
        subscribed.use(9)

        paid, free = settle(subscribed, MAY)

        assert (paid.status, figures(paid)) == (Status.PROVEN, (130,) * 5)
        assert (free.status, figures(free)) == (Status.PROVEN, (9, 9, 9, 9, None))


class TestWhatIsNotBilled:
    def test_a_free_month_is_counted_and_on_no_invoice(self, acme):
        acme.use(50)

        (april,) = settle(acme, MAY)

        assert (april.status, figures(april), april.causes) == (Status.PROVEN, (50, 50, 50, 50, None), [])

    def test_a_trial_is_free_and_the_month_after_it_is_not(self, acme, plans):
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.subscribe(plans.pro, trial_period_days=14)
        acme.wait(days=3)
        acme.use(400)
        report_usage()
        acme.wait(days=11)
        acme.see()
        acme.wait(days=1)
        acme.use(130)

        trial, month = settle(acme, datetime(2026, 5, 15, tzinfo=UTC))

        assert (trial.status, figures(trial)) == (Status.PROVEN, (400, 400, 400, 400, None))
        assert (month.status, figures(month)) == (Status.PROVEN, (130,) * 5)

    def test_what_was_used_before_subscribing_is_on_no_invoice(self, acme, plans):
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.wait(days=10, hours=10, minutes=15)
        acme.use(50)
        acme.wait(minutes=15)
        acme.subscribe(plans.pro)
        acme.use(20)

        free, paid = settle(acme, datetime(2026, 5, 12, tzinfo=UTC))

        assert (free.status, free.invoiced) == (Status.PROVEN, None)
        assert (paid.status, figures(paid)) == (Status.PROVEN, (20,) * 5)

    def test_a_plan_that_sells_nothing_of_the_meter_is_proven_without_an_invoice(self, acme, plans):
        acme.subscribe(plans.pro)
        acme.use(50)

        (april,) = settle(acme, MAY)

        assert april.status == Status.PROVEN
        assert april.invoiced in {None, 50}

    def test_an_organization_that_stripe_does_not_know_yet_waits(self, organization, sandbox):
        store([make_event(organization_id=organization.pk, at=clock.now(), units=5)])

        (proof,) = prove(organization)

        assert (proof.status, proof.stripe, proof.unreported) == (Status.RUNNING, None, 5)


def test_a_yearly_fee_has_its_usage_billed_by_the_month(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.subscribe(plans.pro, interval="year")
    acme.use(130)
    report_usage()
    invoice_april(acme)
    acme.use(20)

    april, may = settle(acme, datetime(2026, 6, 1, tzinfo=UTC))

    assert (april.status, figures(april)) == (Status.PROVEN, (130,) * 5)
    assert (may.status, figures(may)) == (Status.PROVEN, (20,) * 5)


@pytest.mark.parametrize("day", [29, 30, 31])
def test_periods_that_end_on_the_last_days_of_months_of_any_length(acme, plans, day):
    """Complaint 9: periods that end on the 29th to 31st. A call in the last and in the first minute of each."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.wait_until(datetime(2026, 10, day, 15, 30, tzinfo=UTC))
    acme.see()
    acme.subscribe(plans.pro)
    ends = []
    for month in range(6):
        acme.use(100 + month)
        report_usage()
        end = acme.entitlement().period_end
        ends.append(end.day)
        acme.wait_until(end - timedelta(minutes=1))
        acme.use(7)
        report_usage()
        acme.wait_until(end)
        acme.see()
        acme.use(1)
        acme.wait(hours=2)
        acme.see()

    proofs = prove(acme.organization, since=datetime(2026, 10, 29, tzinfo=UTC))[::-1]

    assert ends == [min(day, last) for last in (30, 31, 31, 28, 31, 30)]
    closed = proofs[:6]
    assert [each.status for each in closed] == [Status.PROVEN] * 6
    used = [107, *(108 + month for month in range(1, 6))]
    assert [figures(each) for each in closed] == [(units,) * 5 for units in used]


class TestAMeterThatIsAddedToAPlan:
    @pytest.fixture
    def tokens(self, subscribed, plans) -> PlanPrice:
        """What a token beyond ten costs on the Pro, which Acme has without it."""
        meter = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
        PlanQuota.objects.create(plan=plans.pro, meter=meter, included=10, overage=PlanQuota.Overage.BILL)
        price = PlanPrice.objects.create(plan=plans.pro, meter=meter, interval="month", currency="usd")
        price.tiers.create(up_to=None, unit_amount="10")
        publish_plan(plans.pro)
        price.refresh_from_db()
        return price

    def test_bills_nothing_of_what_was_used_before_and_reported_after(self, subscribed, tokens):
        use(subscribed.organization, units=50, meter="tokens", period_start=APRIL)
        subscribed.wait(minutes=20)
        add(tokens, subscribed)
        report_usage()

        assert [each.invoiced or 0 for each in settle(subscribed, MAY)] == [0]

    def test_bills_nothing_of_that_either_where_a_subscription_sold_it_that_has_ended(
        self, subscribed, plans, tokens
    ):
        add(tokens, subscribed)
        cancel_now(subscribed.organization)
        subscribed.wait(days=40)
        others = [each for each in plans.pro.offered_prices(interval="month") if each != tokens]
        subscribed.subscribe(plans.pro, items=[{"price": each.stripe_price_id} for each in others])
        now = subscribed.entitlement()
        use(subscribed.organization, units=50, meter="tokens", period_start=now.period_start)
        subscribed.wait(minutes=20)
        add(tokens, subscribed)
        report_usage()

        (tokens_used,) = [each for each in settle(subscribed, now.period_end) if each.ledger]
        assert (tokens_used.status, tokens_used.invoiced or 0) == (Status.PROVEN, 0)

    def test_bills_what_was_used_before_its_price_was_changed(self, subscribed, tokens):
        item = add(tokens, subscribed)
        subscribed.wait(hours=3)
        use(subscribed.organization, units=50, meter="tokens", period_start=APRIL)
        subscribed.wait(hours=3)
        # Taken off and added anew, with an invoice for what was used: another item, that begins now.
        subscribed.api.subscription_items.delete(item)
        add(tokens, subscribed)
        report_usage()

        assert [each.invoiced for each in settle(subscribed, MAY)] == [50]


def add(price: PlanPrice, acme) -> str:
    """Have the subscription sell the price too, from now on; return the item's id."""
    wanted = {"subscription": acme.subscription_id, "price": str(price.stripe_price_id)}
    made = acme.api.subscription_items.create(wanted)
    acme.see()
    return str(made.id)


class TestACustomerDeletedAtStripe:
    @pytest.fixture
    def deleted(self, april):
        """Acme in May, with 20 units of it reported, and another customer at Stripe since somebody deleted theirs."""
        april.wait(days=3)
        april.use(20)
        report_usage()
        april.api.customers.delete(april.customer_id)
        call_command("reconcile", "--organization", april.organization.ref, stdout=StringIO())
        ensure_customer(april.organization)
        return april

    def test_what_was_invoiced_before_stays_proven(self, deleted):
        proof = of_april(deleted)

        assert (proof.status, proof.stripe, proof.invoiced) == (Status.PROVEN, 130, 130)

    def test_what_got_no_answer_before_is_told_of_the_same_customer_again(self, april, sandbox):
        april.wait(days=3)
        april.use(20)
        fault = sandbox.faults.add("timeout_after", path="/v1/billing/meter_events")
        report_usage()
        sandbox.faults.remove(fault.id)
        april.api.customers.delete(april.customer_id)
        call_command("reconcile", "--organization", april.organization.ref, stdout=StringIO())
        ensure_customer(april.organization)
        report_usage()
        april.wait(days=2)

        (may,) = [each for each in prove(april.organization) if each.period_start == MAY]

        # Stripe counted them of the one that is gone: they are on no invoice, and it lacks none.
        assert (may.reported, may.stripe) == (20, 20)
        assert [each["code"] for each in may.differences] == ["invoice_short"]

    def test_what_no_invoice_holds_is_named(self, deleted):
        deleted.wait(days=2)

        (may,) = [each for each in prove(deleted.organization) if each.period_start == MAY]

        assert [(each["code"], each["units"]) for each in may.differences] == [("invoice_short", 20)]


def test_whoever_does_not_pay_goes_on_with_free_limits_and_stripe_s_invoice_has_both(subscribed):
    stop_paying(subscribed)
    assert subscribed.entitlement().plan.slug == "free"
    subscribed.use(30)

    report_usage()
    proofs = prove(subscribed.organization)[::-1]

    assert proofs[0].status == Status.PROVEN
    assert sum(each.stripe for each in proofs) == 180
    assert not [each for each in proofs if each.status == Status.DIFFERS]


class TestTheLedgerSMonths:
    def test_a_month_that_was_dropped_keeps_its_figure_and_is_no_difference(self, april):
        assert of_april(april).status == Status.PROVEN
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE usage_event_2026_04")

        proof = of_april(april)

        assert (proof.status, proof.ledger, proof.ledger_is_kept) == (Status.PROVEN, 130, False)

    def test_one_that_was_never_proven_before_has_no_figure_of_the_ledger(self, april):
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE usage_event_2026_04")

        proof = of_april(april)

        assert (proof.status, proof.ledger) == (Status.PROVEN, None)

    def test_a_straggler_that_has_the_month_made_anew_does_not_make_it_red(self, april):
        of_april(april)
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE usage_event_2026_04")
        of_april(april)
        ensure_partition(APRIL)

        assert of_april(april).status == Status.PROVEN
