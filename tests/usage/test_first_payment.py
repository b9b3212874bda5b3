"""What is used on the free plan while a subscription waits for its first payment is on no invoice."""

from datetime import UTC, datetime, timedelta

import pytest

from accounts import clock
from billing.stripe.ending import cancel_now
from tests.billing.acme import Acme
from tests.usage.outbox import counted
from tests.usage.proving import APRIL, HOUR, MAY, use_in
from tests.usage.repairing import mended
from usage.models import Correction, MeterReport, Proof
from usage.proof import prove
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture
def buying(acme, plans) -> Acme:
    """Acme on the free plan, who is about to buy a Pro that bills each unit beyond 100, on 11 April."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.wait(days=10, hours=10, minutes=30, seconds=20)
    return acme


def begin(acme, plan) -> datetime:
    """Begin a subscription as `POST /subscription` does, three hours ago; return when."""
    started = clock.now()
    acme.subscribe(plan, payment_behavior="default_incomplete")
    acme.wait(hours=3)
    assert acme.entitlement().plan.slug == "free"
    return started


def pay(acme) -> None:
    acme.api.invoices.pay(acme.subscription().latest_invoice)
    acme.see()
    assert acme.entitlement().plan.slug == "pro"


def end_month(acme) -> int:
    """Let the subscription's month end and be proven; return the units that are on invoices."""
    report_usage()
    acme.wait_until(acme.entitlement().period_end)
    acme.wait(hours=2)
    acme.see()
    report_usage()
    assert {each.status for each in prove(acme.organization)} == {Proof.Status.PROVEN}
    return int(acme.invoiced_units())


@pytest.mark.parametrize("seconds", [0, 40])
def test_what_is_used_before_it_is_paid_counts_as_free(buying, plans, seconds):
    buying.wait(seconds=seconds)
    started = begin(buying, plans.pro)
    buying.use(90)
    report_usage()
    buying.wait(hours=3)
    buying.use(10)
    pay(buying)
    buying.use(80)

    assert end_month(buying) == 80
    dated = MeterReport.objects.filter(period_start=APRIL).values_list("dated_at", flat=True)
    assert set(dated) == {started - SECOND}
    assert counted(buying.organization) == 180


def test_what_is_used_before_it_is_paid_and_reported_after_it_has_ended_counts_as_free(buying, plans):
    begin(buying, plans.pro)
    buying.use(90)
    pay(buying)
    buying.use(80)
    cancel_now(buying.organization)
    buying.see()
    use_in(buying, clock.now() - HOUR, units=5)
    report_usage()
    buying.wait_until(MAY)
    buying.wait(hours=2)
    buying.see()

    assert {each.status for each in prove(buying.organization)} == {Proof.Status.PROVEN}
    assert buying.invoiced_units() == 80


def test_what_is_used_while_the_free_month_turns_counts_as_free(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.wait_until(MAY - 2 * HOUR)
    started = begin(acme, plans.pro)
    acme.use(90)
    report_usage()
    acme.wait(hours=2)
    acme.use(7)
    pay(acme)
    report_usage()
    acme.use(80)

    assert end_month(acme) == 80
    assert set(MeterReport.objects.filter(period_start=MAY).values_list("dated_at", flat=True)) == {
        started - SECOND
    }


def test_one_that_is_never_paid_has_nothing_on_any_invoice_nor_the_next_one_that_is(buying, plans):
    begin(buying, plans.pro)
    buying.use(90)
    report_usage()
    buying.wait(days=2)
    buying.see()
    assert buying.subscription().status == "incomplete_expired"
    buying.use(20)
    report_usage()
    begin(buying, plans.pro)
    buying.use(30)
    report_usage()
    pay(buying)
    buying.use(80)

    assert end_month(buying) == 80
    assert counted(buying.organization) == 220


def test_of_two_that_wait_at_once_neither_has_it(buying, plans):
    started = begin(buying, plans.pro)
    begin(buying, plans.pro)
    buying.use(90)
    report_usage()

    assert MeterReport.objects.get().dated_at == started - SECOND


def test_what_is_used_on_a_paid_plan_stays_there_while_another_subscription_waits(subscribed, plans):
    subscribed.subscribe(plans.team, payment_behavior="default_incomplete")
    subscribed.wait(hours=3)
    subscribed.use(130)
    report_usage()

    assert MeterReport.objects.get().dated_at == datetime(2026, 4, 11, 13, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0, 40])
def test_a_lost_report_of_it_is_made_anew_as_it_was(buying, plans, seconds):
    buying.wait(seconds=seconds)
    begin(buying, plans.pro)
    buying.use(90)
    pay(buying)
    buying.use(80)
    report_usage()
    MeterReport.objects.get(units=90).delete()
    buying.wait(hours=3)

    (done,) = mended(buying)

    assert "Made a report of 90 units anew that Stripe has counted" in done
    assert end_month(buying) == 80
    assert counted(buying.organization) == 170


def test_a_lost_report_of_a_month_that_turned_meanwhile_is_made_anew_as_it_was(acme, plans):
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.use(20)
    acme.wait_until(MAY - 2 * HOUR)
    started = begin(acme, plans.pro)
    acme.use(90)
    pay(acme)
    report_usage()
    MeterReport.objects.get(units=90).delete()
    acme.wait(hours=3)

    mended(acme)

    assert MeterReport.objects.get(units=90).dated_at == started - SECOND
    assert counted(acme.organization) == 110


def test_what_is_too_old_for_stripe_by_its_start_costs_nothing(buying, plans):
    begin(buying, plans.pro)
    used_at = clock.now()
    pay(buying)
    buying.wait_until(used_at + MeterReport.AGE_LIMIT - HOUR)
    buying.see()
    use_in(buying, used_at, units=90)
    report_usage()
    buying.wait(hours=1)

    mended(buying)

    assert MeterReport.objects.get().state == MeterReport.State.REJECTED
    assert Correction.objects.get().amount == 0
