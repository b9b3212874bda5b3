"""`reconcile --repair` mends what was broken by hand, bills nothing twice, says what it did and leaves the rest."""

import json
from io import StringIO
from threading import Thread
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from accounts import clock
from accounts.models import Organization
from billing.models import ReconcileRun
from billing.stripe.ending import cancel_now
from billing.stripe.metering import cancel_meter_event
from tests.billing.acme import Acme
from tests.usage.proving import (
    MAY,
    copy_in_ledger,
    copy_report,
    event_at_stripe,
    of_april,
    refuse,
    use_in,
    use_late,
)
from usage import reports
from usage.models import Correction, MeterReport, Proof, UsageEvent, UsageRollup
from usage.repair import outbox, repair, running
from usage.repair.hours import rebuild_hours
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
Status = Proof.Status
State = MeterReport.State


def mended(acme) -> list[str]:
    """Repair, see that it is mended and that a second repair finds nothing; return what was done."""
    outcome = repair(acme.organization)
    assert outcome.left == []
    assert of_april(acme).status != Status.DIFFERS
    again = repair(acme.organization)
    assert (again.done, again.left) == ([], [])
    return outcome.done


def left(acme) -> list[str]:
    """Repair, see that nothing was done and nothing changed; return what is left."""
    before = counts()
    outcome = repair(acme.organization)
    assert outcome.done == []
    assert counts() == before
    return outcome.left


def counts() -> tuple[object, ...]:
    return (
        sorted(UsageEvent.objects.values_list("id", "units")),
        sorted(UsageRollup.objects.values_list("pk", "units", "reported_units")),
        sorted(MeterReport.objects.values_list("pk", "units", "state")),
        Correction.objects.count(),
    )


def invoice_may(acme) -> int:
    """Let May end, and return the cents that its invoice has of corrections."""
    acme.wait_until(MAY.replace(month=6))
    acme.wait(hours=2)
    lines = acme.last_invoice().lines.data
    return sum(line.amount for line in lines if (line.description or "").startswith("Correction"))


def test_where_nothing_differs_nothing_is_done(april):
    assert mended(april) == []


def test_a_sum_that_lacks_a_unit_is_made_anew_from_the_ledger_and_nothing_is_reported_twice(april):
    UsageRollup.objects.filter(units=30).update(units=29, reported_units=29, calls=0)

    assert mended(april) == [
        "Requests from 2026-04-01: Made the sums of 2026-04-11 13h anew from the ledger: +1 unit."
    ]
    rollup = UsageRollup.objects.get(units=30)
    assert (rollup.calls, rollup.reported_units) == (1, 30)
    assert of_april(april).stripe == 130


def test_sums_that_are_gone_are_made_anew_with_all_that_they_said(april):
    before = UsageRollup.objects.values("hour", "units", "calls", "latency", "response_ms", "reported_units")
    kept = list(before.order_by("hour"))
    UsageRollup.objects.all().delete()

    mended(april)

    assert list(before.order_by("hour")) == kept


def test_a_row_that_is_missing_in_the_ledger_is_named_and_nobody_pays_less_or_more(april):
    UsageEvent.objects.filter(units=30).delete()

    (sentence,) = left(april)

    assert "The ledger has 30 units less than its hourly sums" in sentence


def test_a_row_that_looks_doubled_in_the_ledger_is_never_billed_by_itself(april):
    twin, copy = copy_in_ledger(units=30)

    (sentence,) = left(april)

    assert twin in sentence
    assert copy in sentence


def test_a_report_that_was_lost_after_it_was_sent_is_made_anew_and_not_sent_again(april):
    MeterReport.objects.filter(units=30).delete()

    (done,) = mended(april)

    assert "Made a report of 30 units anew that Stripe has counted" in done
    assert of_april(april).stripe == 130


def test_a_report_that_was_lost_before_it_was_sent_is_reported(subscribed):
    subscribed.use(30)
    reports.make_reports()
    MeterReport.objects.all().delete()

    first, second = mended(subscribed)

    assert first.endswith("30 units of 2026-04-11 10h are to be reported again: Stripe has none of them.")
    assert second == "Sent 1 report that was waiting."
    assert of_april(subscribed).stripe == 30


def test_a_doubled_report_that_was_not_sent_is_taken_off(april):
    first, second = copy_report(units=30, sent=False)

    (done,) = mended(april)

    assert second.identifier in done
    assert list(MeterReport.objects.filter(units=30)) == [first]
    assert of_april(april).stripe == 130


def test_a_doubled_report_that_was_sent_today_is_cancelled_at_stripe(subscribed):
    subscribed.use(30)
    report_usage()
    subscribed.wait(minutes=20)
    first, second = copy_report(units=30, sent=True)
    subscribed.wait(hours=20)

    (done,) = mended(subscribed)

    assert done.endswith(f"Had Stripe cancel {second.identifier}, of 30 units that another report holds.")
    assert (of_april(subscribed).stripe, MeterReport.objects.get()) == (30, first)


def row_copied_under(pk: str, *, units: int) -> MeterReport:
    """Copy a report's row in the database under another id, all else equal: Stripe never hears of it."""
    copy = MeterReport.objects.get(units=units)
    copy.pk = UUID(pk)
    copy.save(force_insert=True)
    return copy


SMALLEST, LARGEST = "00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"


@pytest.fixture
def sent_today(subscribed) -> Acme:
    """Acme with three reports in one hour each, all of them taken by Stripe."""
    for units in (3, 47, 30):
        subscribed.use(units)
        report_usage()
        subscribed.wait(hours=1)
    return subscribed


@pytest.mark.parametrize("pk", [SMALLEST, LARGEST])
@pytest.mark.parametrize("hours", [0, 5, 40])
def test_of_a_row_copied_by_hand_stripe_keeps_the_genuine_event(sent_today, pk, hours):
    genuine = MeterReport.objects.get(units=47)
    copy = row_copied_under(pk, units=47)
    sent_today.wait(hours=hours)

    (done,) = mended(sent_today)

    assert done.startswith("Requests from 2026-04-01: Took off ")
    assert (of_april(sent_today).stripe, of_april(sent_today).reported) == (80, 80)
    if hours < 20:
        assert copy.identifier in done
        assert MeterReport.objects.get(units=47) == genuine


@pytest.mark.parametrize("pk", [SMALLEST, LARGEST])
def test_a_row_copied_right_after_it_was_sent_is_told_from_the_genuine_one(subscribed, pk):
    subscribed.use(47)
    report_usage()
    genuine = MeterReport.objects.get()
    row_copied_under(pk, units=47)

    mended(subscribed)

    assert MeterReport.objects.get() == genuine
    assert of_april(subscribed).stripe == 47


def test_a_repair_that_was_cut_off_after_the_cancellation_takes_the_same_report_off(sent_today, monkeypatch):
    genuine = MeterReport.objects.get(units=47)
    row_copied_under(SMALLEST, units=47)
    real = outbox.cancel_meter_event

    def cancel_and_die(**what):
        real(**what)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "cancel_meter_event", cancel_and_die)
        with pytest.raises(KeyboardInterrupt):
            repair(sent_today.organization)

    mended(sent_today)

    assert MeterReport.objects.get(units=47) == genuine
    assert of_april(sent_today).stripe == 80


def test_what_a_repair_had_cancelled_wrongly_is_no_matter_of_a_late_count(subscribed, monkeypatch):
    subscribed.use(47)
    report_usage()
    copy = row_copied_under(SMALLEST, units=47)
    genuine = MeterReport.objects.exclude(pk=copy.pk).get()

    def cancel_both(**what):
        for each in (copy, genuine):
            cancel_meter_event(event_name=what["event_name"], identifier=each.identifier)

    monkeypatch.setattr(outbox, "cancel_meter_event", cancel_both)
    outcome = repair(subscribed.organization)

    assert [each["code"] for each in outcome.proofs[0].differences] == ["stripe_short"]
    assert any("Stripe counted 47 units less" in each for each in outcome.left)


def test_a_doubled_report_that_is_too_old_to_be_cancelled_is_proposed_as_a_credit_and_not_given(subscribed):
    subscribed.use(130)
    report_usage()
    copy_report(units=130, sent=True)
    subscribed.wait_until(MAY)
    subscribed.wait(hours=2)
    subscribed.see()

    proposed, cause = left(subscribed)

    assert "Credit $13 on the next invoice" in proposed
    assert proposed.endswith("Somebody has to say yes to it.")
    assert "more than the hourly sums" in cause


def test_what_stripe_counted_twice_is_proposed_as_a_credit_and_not_given(subscribed):
    subscribed.use(130)
    report_usage()
    event_at_stripe(subscribed, units=120)
    subscribed.wait_until(MAY)
    subscribed.wait(hours=2)
    subscribed.see()

    proposed, cause = left(subscribed)

    assert "Credit $12 on the next invoice" in proposed
    assert "Stripe counted 120 units more" in cause
    assert invoice_may(subscribed) == 0


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


@pytest.mark.parametrize("arrives", [True, False])
def test_a_report_without_an_answer_for_a_day_is_settled_by_what_stripe_counted(subscribed, sandbox, arrives):
    subscribed.use(30)
    fault = sandbox.faults.add(
        "timeout_after" if arrives else "timeout_before", path="/v1/billing/meter_events"
    )
    report_usage()
    sandbox.faults.remove(fault.id)
    subscribed.wait(hours=30)
    assert MeterReport.objects.get().state == State.UNKNOWN

    (done,) = mended(subscribed)

    assert done.endswith("Note that they arrived." if arrives else "Send them again.")
    assert MeterReport.objects.get().state == State.SENT
    assert of_april(subscribed).stripe == 30


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


def test_rebuilding_an_hour_keeps_what_others_have_in_it(april, outsider):
    rival: Organization = outsider.memberships.get().organization
    before = list(UsageRollup.objects.order_by("hour").values_list("units", "reported_units"))
    hours = UsageRollup.objects.values_list("hour", flat=True)

    assert rebuild_hours(april.organization.pk, "requests", list(hours)) == 0
    assert rebuild_hours(rival.pk, "requests", list(hours)) == 0

    assert list(UsageRollup.objects.order_by("hour").values_list("units", "reported_units")) == before
    assert clock.now() > MAY


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
