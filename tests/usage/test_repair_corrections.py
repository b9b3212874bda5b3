"""`reconcile --repair` charges once what is on no invoice, only names credits, and says what it did and left."""

import json
from io import StringIO
from threading import Thread

import pytest
from django.core.management import call_command
from django.db import connection

from accounts import clock
from billing.errors import PaymentDeclined
from billing.models import ReconcileRun
from billing.stripe.changing import change_plan
from billing.stripe.ending import cancel_now
from tests.billing.acme import FAILS
from tests.usage.proving import (
    MAY,
    copy_report,
    invoice_april,
    of_april,
    refuse,
    use_in,
    use_late,
)
from tests.usage.repairing import invoice_may, left, mended
from usage import corrections
from usage.corrections import CannotCorrect
from usage.models import Correction, Proof, UsageEvent
from usage.proof.accepting import accept
from usage.repair import repair, running
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
Status = Proof.Status


def test_a_doubled_report_that_is_too_old_to_be_cancelled_is_proposed_as_a_credit_and_not_given(subscribed):
    subscribed.use(130)
    report_usage()
    copy_report(units=130, sent=True)
    invoice_april(subscribed)

    proposed, cause = left(subscribed)

    assert "Credit $13 on the next invoice" in proposed
    assert proposed.endswith("Somebody has to say yes to it.")
    assert "more than the hourly sums" in cause


def test_what_stripe_counted_twice_is_proposed_as_a_credit_and_not_given(overbilled):

    proposed, cause = left(overbilled)

    assert "Credit $12 on the next invoice" in proposed
    assert "Stripe counted 120 units more" in cause
    assert invoice_may(overbilled) == 0


def test_calls_reported_late_are_charged_by_the_next_invoice_once(april):
    use_late(april, units=12)
    report_usage()

    assert mended(april) == [
        "Requests from 2026-04-01: Charge $1.20 on the next invoice: "
        "Correction: 12 calls of 1-30 April 2026, reported late."
    ]
    assert invoice_may(april) == 120


def test_calls_that_no_report_holds_are_reported_and_as_they_are_late_charged(april):
    use_late(april, units=12)

    sent, charged = mended(april)

    assert sent == "Sent 1 report that was waiting."
    assert "Charge $1.20" in charged
    assert invoice_may(april) == 120


def test_calls_that_stripe_refused_are_charged_by_the_next_invoice_once(april):
    use_late(april, units=12)
    refuse()

    assert len(mended(april)) == 1
    assert invoice_may(april) == 120


class TestAPeriodThatWasAccepted:
    @pytest.fixture
    def accepted(self, april):
        """April with 12 late units that were let go, and 3 that came after that."""
        use_late(april, units=12)
        report_usage()
        proof = of_april(april)
        accept(proof, seen=proof.snapshot, reason="Our fault: let it go.", by="ann@staff.example")
        use_late(april, units=3)
        report_usage()
        return april

    def test_is_charged_nothing_more_by_repair_which_says_what_there_is_to_decide(self, accepted):
        proposed, cause = left(accepted)

        assert "Charge $1.50 on the next invoice: Correction: 15 calls" in proposed
        assert proposed.endswith(
            "A difference of this period was accepted before. Somebody has to say yes to it."
        )
        assert "it is 15 units short" in cause
        assert invoice_may(accepted) == 0

    def test_is_charged_by_nobody_who_has_not_said_yes(self, accepted):
        proposal = corrections.propose(of_april(accepted))

        with pytest.raises(CannotCorrect, match="Nobody has said yes to this charge"):
            corrections.make(proposal)
        assert corrections.make(proposal, by="ann@staff.example").amount == 150


def test_of_two_processes_one_leaves_it_to_the_other(april, monkeypatch):
    use_late(april, units=12)
    report_usage()
    seen = []
    real = running.correct

    def and_another_one(organization, outcome):
        def other():
            try:
                seen.append(running.alone(organization))
                with seen[0] as is_alone:
                    seen.append(is_alone)
            finally:
                connection.close()

        thread = Thread(target=other)
        thread.start()
        thread.join()
        real(organization, outcome)

    monkeypatch.setattr(running, "correct", and_another_one)
    repair(april.organization)

    assert seen[1] is False
    assert Correction.objects.count() == 1


class TestTheCommand:
    def test_it_says_what_it_did_organization_by_organization(self, april, outsider):
        use_late(april, units=12)
        report_usage()
        out = StringIO()

        call_command("reconcile", "--repair", stdout=out)

        ref = april.organization.ref
        assert f"{ref}  Requests from 2026-04-01: Charge $1.20 on the next invoice" in out.getvalue()
        assert of_april(april).status == Status.PROVEN
        (run,) = ReconcileRun.objects.all()
        assert [each["ref"] for each in run.findings if "Charge" in each["sentence"]] == [ref]

    def test_it_names_what_it_cannot_mend(self, april):
        UsageEvent.objects.filter(units=30).delete()
        out = StringIO()

        call_command("reconcile", "--repair", "--json", "--organization", april.organization.ref, stdout=out)

        said = [each["sentence"] for each in json.loads(out.getvalue())["findings"]]
        assert any("The ledger has 30 units less" in each for each in said)

    def test_one_with_something_left_is_one_with_problems(self, april):
        UsageEvent.objects.filter(units=30).delete()
        out = StringIO()

        call_command("reconcile", "--repair", stdout=out)

        assert out.getvalue().endswith(" 1 organizations with problems.\n")

    def test_without_repair_it_mends_nothing_of_usage(self, april):
        use_late(april, units=12)
        report_usage()

        call_command("reconcile", stdout=StringIO())

        assert not Correction.objects.exists()

    def test_one_that_fails_does_not_hold_up_the_others(self, april, outsider, monkeypatch):
        rival = outsider.memberships.get().organization
        real = running.prove

        def fail_for_rival(organization, **rest):
            if organization == rival:
                raise ValueError("its rows are odd")
            return real(organization, **rest)

        monkeypatch.setattr(running, "prove", fail_for_rival)
        use_late(april, units=12)
        report_usage()
        out = StringIO()

        call_command("reconcile", "--repair", stdout=out)

        assert "It could not be repaired: ValueError('its rows are odd')" in out.getvalue()
        assert Correction.objects.get().organization == april.organization


def test_what_was_served_between_the_last_report_and_the_end_gets_an_invoice_of_its_own(subscribed):
    subscribed.use(130)
    cancel_now(subscribed.organization)
    use_in(subscribed, clock.now(), units=7)
    subscribed.wait_until(MAY)
    subscribed.see()

    done = mended(subscribed)

    assert done[-1].endswith(
        "Charge $0.70 on the next invoice: Correction: 7 calls of 1-11 April 2026, reported late."
    )
    proof = of_april(subscribed)
    assert (proof.status, proof.ledger, proof.invoiced, proof.corrected) == (Status.PROVEN, 137, 130, 7)
    subscribed.wait(hours=2)
    lines = subscribed.last_invoice().lines.data
    assert [line.amount for line in lines] == [70]


def test_a_subscription_that_ended_without_an_invoice_is_billed_once(subscribed):
    subscribed.use(130)
    report_usage()
    subscribed.api.subscriptions.cancel(subscribed.subscription_id)
    subscribed.wait_until(MAY)
    subscribed.see()

    (done,) = mended(subscribed)

    assert "Charge $3 on the next invoice: Correction: 130 calls" in done
    assert len(subscribed.invoices()) == 2


def test_it_is_also_where_an_upgrade_was_declined_before_it_ended(subscribed, plans):
    subscribed.use(130)
    report_usage()
    subscribed.pay_with(FAILS)
    with pytest.raises(PaymentDeclined):
        change_plan(subscribed.organization, plan=plans.team)
    subscribed.pay_with("pm_card_visa")
    subscribed.wait(days=3)
    subscribed.use(70)
    report_usage()
    subscribed.api.subscriptions.cancel(subscribed.subscription_id)
    subscribed.wait(days=2)
    subscribed.see()

    mended(subscribed)

    assert list(Correction.objects.values_list("units", "amount")) == [(200, 1000)]


def test_it_is_also_where_another_subscription_has_invoices_of_that_time(subscribed, plans):
    first = subscribed.subscription_id
    subscribed.use(130)
    report_usage()
    subscribed.wait(days=2)
    subscribed.subscribe(plans.pro)
    subscribed.wait(hours=1)
    subscribed.api.subscriptions.cancel(first)
    subscribed.see()
    subscribed.use(5)
    report_usage()
    subscribed.wait_until(subscribed.entitlement().period_end)
    subscribed.wait(days=2)
    subscribed.see()

    mended(subscribed)

    assert list(Correction.objects.values_list("units", "amount")) == [(130, 300)]
