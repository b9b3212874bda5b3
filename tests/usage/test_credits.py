"""What Stripe billed too much is given back, where somebody says yes to it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.usage.proving import copy_report, event_at_stripe, invoice_april, of_april, use_late
from usage import corrections
from usage.corrections import CannotCorrect
from usage.models import Correction, Proof
from usage.proof import prove
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = Correction.State


def test_what_stripe_counted_twice_is_given_back_where_somebody_says_yes(overbilled):
    proposal = corrections.propose(of_april(overbilled))
    assert proposal.sentence == (
        "Credit $12 on the next invoice: Correction: 120 calls of 1-30 April 2026, billed twice."
    )
    with pytest.raises(CannotCorrect, match="Nobody has said yes"):
        corrections.make(proposal)

    made = corrections.send(corrections.make(proposal, by="ann@staff.example").pk)

    assert (made.units, made.amount, made.state) == (-120, -1200, State.SENT)
    assert of_april(overbilled).status == Proof.Status.PROVEN


def test_what_two_subscriptions_billed_is_given_back_once(subscribed, plans):
    subscribed.use(130)
    report_usage()
    subscribed.subscribe(plans.pro)
    subscribed.wait(hours=1)
    subscribed.use(150)
    report_usage()
    subscribed.wait_until(datetime(2026, 5, 12, tzinfo=UTC))
    subscribed.see()
    # The first one's April has all 280, the second one's month 150 of them again: of those 50 cost 10 cents.
    second, first = prove(subscribed.organization)
    assert (second.invoiced, second.rollups, first.status) == (300, 150, Proof.Status.PROVEN)
    assert "are there two subscriptions?" in second.differences[0]["sentence"]

    made = corrections.make(corrections.propose(second), by="ann@staff.example")

    assert (made.units, made.amount) == (-150, -500)
    corrections.send(made.pk)
    assert {each.status for each in prove(subscribed.organization)} == {Proof.Status.PROVEN}


def test_what_came_late_besides_is_charged_and_all_of_it_adds_up(overbilled):
    corrections.send(corrections.make(corrections.propose(of_april(overbilled)), by="ann@staff.example").pk)
    use_late(overbilled, units=12)
    report_usage()

    late = corrections.send(corrections.make(corrections.propose(of_april(overbilled))).pk)

    assert late.amount == 120

    proof = of_april(overbilled)
    assert proof.status == Proof.Status.PROVEN
    assert [(c["code"], c["units"]) for c in proof.causes] == [("stripe_over", 120), ("late", 12)]


def test_a_report_that_was_sent_twice_is_given_back(subscribed):
    subscribed.use(130)
    report_usage()
    copy_report(units=130, sent=True)
    invoice_april(subscribed)

    made = corrections.make(corrections.propose(of_april(subscribed)), by="ann@staff.example")

    assert (made.units, made.amount) == (-130, -1300)
    corrections.send(made.pk)
    assert of_april(subscribed).status == Proof.Status.PROVEN


def test_what_was_billed_too_much_is_priced_by_its_own_month_s_invoice(april):
    """Not by one of months before, of which the reports are not looked at any more."""
    august = datetime(2026, 8, 1, tzinfo=UTC)
    april.wait_until(august - timedelta(days=3))
    april.see()
    april.use(5)
    report_usage()
    event_at_stripe(april, units=20)
    april.wait_until(august)
    april.wait(hours=2)
    april.see()
    july = prove(april.organization)[0]
    assert (july.rollups, july.invoiced) == (5, 25)

    proposal = corrections.propose(july)

    assert proposal.billed.start == july.period_start
    assert (proposal.units, proposal.amount) == (-20, 0)
