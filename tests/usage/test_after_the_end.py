"""Calls that were counted in a subscription's period, in the hour after it was ended at once, are billed by it."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_now
from tests.usage.proving import MAY, of_april, refuse, use_in
from usage.models import Correction, MeterReport, Proof
from usage.repair import repair
from usage.tasks import report_usage

pytestmark = [pytest.mark.django_db, pytest.mark.long]

ELEVEN = datetime(2026, 4, 11, 11, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def ending(subscribed):
    """Acme, who has used 130 units, two seconds before eleven o'clock on 11 April."""
    subscribed.use(130)
    report_usage()
    subscribed.wait_until(ELEVEN - 2 * SECOND)
    return subscribed


def end_at_stripe(acme) -> None:
    """End the subscription, of which nobody here has heard yet."""
    acme.api.subscriptions.cancel(acme.subscription_id, {"invoice_now": True, "prorate": True})


def corrected() -> list[tuple[int, int]]:
    return list(Correction.objects.order_by("number").values_list("units", "amount"))


def test_what_is_reported_once_the_end_is_known(ending):
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + SECOND)
    ending.use(19)
    ending.see()
    use_in(ending, ELEVEN - 3 * SECOND, units=14)
    report_usage()
    use_in(ending, ELEVEN - 3 * SECOND, units=5)
    report_usage()
    ending.wait_until(MAY)

    repair(ending.organization)

    proof = of_april(ending)
    assert (proof.status, proof.ledger, proof.invoiced, proof.corrected) == ("proven", 168, 130, 38)
    assert corrected() == [(38, 380)]


def test_what_was_reported_before_the_end_was_known(ending):
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + 10 * SECOND)
    ending.use(19)
    report_usage()
    ending.wait_until(ELEVEN + timedelta(hours=2, seconds=1))
    ending.use(2)
    report_usage()
    ending.see()

    repair(ending.organization)

    assert of_april(ending).status == Proof.Status.PROVEN
    assert corrected() == [(21, 210)]
    assert set(MeterReport.objects.filter(units__in=[19, 2]).values_list("dated_at", flat=True)) == {
        ELEVEN,
        ELEVEN + timedelta(hours=2),
    }


def test_where_the_end_left_no_invoice_all_is_billed_together_a_day_later(ending):
    ending.api.subscriptions.cancel(ending.subscription_id)
    ending.wait_until(ELEVEN + SECOND)
    ending.use(19)
    report_usage()
    ending.see()

    assert of_april(ending).status == Proof.Status.WAITING
    assert repair(ending.organization).done == []
    ending.wait(days=1)
    ending.see()
    repair(ending.organization)

    assert corrected() == [(149, 490)]
    assert of_april(ending).status == Proof.Status.PROVEN


def test_what_stripe_refused_of_it(ending):
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + SECOND)
    ending.use(19)
    refuse()
    ending.see()

    repair(ending.organization)

    assert corrected() == [(19, 190)]
    assert of_april(ending).status == Proof.Status.PROVEN


def test_what_is_used_on_the_free_plan_after_it_is_not(ending):
    cancel_now(ending.organization)
    ending.see()
    ending.wait_until(ELEVEN + SECOND)
    ending.use(19)
    report_usage()
    ending.wait(days=2)

    repair(ending.organization)

    assert corrected() == []
    assert ending.organization.proofs.get(ledger=19).invoiced is None


def test_what_is_used_on_a_subscription_that_follows_in_the_same_hour_is_on_its_own_invoice(ending, plans):
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + timedelta(minutes=1))
    ending.use(19)
    ending.subscribe(plans.pro)
    ending.wait(minutes=1)
    ending.use(107)
    report_usage()
    ending.wait_until(datetime(2026, 5, 11, 14, tzinfo=UTC))
    ending.see()

    repair(ending.organization)

    assert corrected() == [(19, 190)]
    assert ending.invoiced_units() == 130 + 107
    assert {each.status for each in ending.organization.proofs.all()} <= {"proven", "running"}


def test_of_a_plan_that_was_changed_before_it_is_priced_by_the_last_one(ending, plans):
    ending.see()
    change_plan(ending.organization, plan=plans.team)
    ending.see()
    ending.wait_until(ELEVEN + timedelta(minutes=59, seconds=58))
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + timedelta(hours=1, seconds=1))
    ending.use(107)
    report_usage()
    ending.see()
    ending.wait_until(MAY)

    repair(ending.organization)

    assert corrected() == [(107, 35)]
    assert {each.status for each in ending.organization.proofs.all()} == {"proven"}


def test_in_a_trial_it_costs_nothing(acme, plans):
    acme.bill_overage(plans.pro, included=10, cents="10")
    acme.subscribe(plans.pro, trial_period_days=14)
    acme.wait_until(ELEVEN - 2 * SECOND)
    end_at_stripe(acme)
    acme.wait_until(ELEVEN + SECOND)
    acme.use(19)
    report_usage()
    acme.see()
    acme.wait_until(MAY)

    assert repair(acme.organization).left == []
    assert corrected() == []
    assert of_april(acme).status == Proof.Status.PROVEN


def test_it_is_not_waited_for_a_month_s_end_where_nothing_was_used_since_and_the_proof_was_made_before(
    ending,
):
    assert of_april(ending).status == Proof.Status.RUNNING
    end_at_stripe(ending)
    ending.wait_until(ELEVEN + SECOND)
    ending.use(19)
    report_usage()
    ending.see()

    repair(ending.organization)

    assert corrected() == [(19, 190)]
