"""The night's round, and what the doctor says of it."""

import pytest

from billing import doctor
from tests.billing.doctoring import found, only
from tests.usage.proving import copy_report, of_april, refuse, use_late
from usage import corrections
from usage.models import Correction, Proof, UsageEvent, UsageRollup
from usage.tasks import prove_usage, report_usage, send_corrections

pytestmark = pytest.mark.django_db


def test_the_night_s_round_finds_what_differs_and_the_doctor_tells(april):
    use_late(april, units=12)
    report_usage()

    assert prove_usage() == 1

    finding = only("usage-proof")
    assert finding.sentence.startswith("Requests of Acme from 2026-04-01 00:00 UTC, as of 2026-05-01 02:00: ")
    assert "before 12 units were reported" in finding.sentence
    # It charges somebody, so a person says yes.
    assert finding.fix is not None
    assert not finding.fix.is_safe
    doctor.treat(finding)
    assert found("usage-proof") == []
    assert Correction.objects.get().amount == 120


def test_counts_are_mended_unasked(april):
    UsageRollup.objects.filter(units=30).update(units=29, reported_units=29)
    prove_usage()
    finding = only("usage-proof")

    treatment = doctor.mend([finding])

    assert (treatment.mended, treatment.failed) == ([finding], [])
    assert found("usage-proof") == []


def test_mending_counts_charges_nobody(april):
    copy_report(units=30, sent=False)
    use_late(april, units=12)
    report_usage()
    of_april(april)

    doctor.mend(found("usage-proof"))

    assert not Correction.objects.exists()


def test_what_nobody_can_mend_has_no_fix(april):
    UsageEvent.objects.filter(units=30).delete()
    prove_usage()

    assert only("usage-proof").fix is None


def test_where_all_agrees_the_doctor_finds_nothing(april):
    prove_usage()

    assert found("usage-proof") == found("usage-corrections") == []
    assert Proof.objects.get().status == Proof.Status.PROVEN


def test_a_correction_that_waits_is_sent_by_the_worker(april):
    use_late(april, units=12)
    refuse()
    corrections.make(corrections.propose(of_april(april)))

    assert send_corrections() == 1


def test_a_correction_that_no_invoice_takes_up_is_told(april):
    use_late(april, units=12)
    refuse()
    made = corrections.make(corrections.propose(of_april(april)))
    Correction.objects.update(state="failed", last_error="No such customer.")
    april.wait(hours=2)

    finding = only("usage-corrections")

    assert finding.subject == str(made.pk)
    assert finding.sentence.endswith("is on no invoice: No such customer.")
