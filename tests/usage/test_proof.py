"""A month is proven to the unit in all five places; what is broken by hand is caught, named and located."""

from datetime import UTC, datetime

import pytest
from django.db import connection

from tests.usage.proving import (
    MAY,
    copy_in_ledger,
    copy_report,
    event_at_stripe,
    of_april,
    only_cause,
    refuse,
    use_late,
)
from usage import reports
from usage.models import MeterReport, Proof, UsageEvent, UsageRollup
from usage.proof import storing
from usage.proof.figures import asker
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
Status = Proof.Status


def test_a_month_is_proven_to_the_unit_in_five_places(april):
    proof = of_april(april)

    assert proof.causes == []
    assert proof.status == Status.PROVEN
    assert (proof.ledger, proof.rollups, proof.reported, proof.stripe, proof.invoiced) == (130,) * 5
    assert (proof.period_start, proof.period_end) == (datetime(2026, 4, 1, tzinfo=UTC), MAY)


def test_a_month_that_runs_has_nothing_invoiced_and_says_what_is_on_its_way(subscribed):
    subscribed.use(100)
    report_usage()
    subscribed.use(7)

    proof = of_april(subscribed)

    assert proof.status == Status.RUNNING
    assert (proof.ledger, proof.rollups, proof.reported, proof.stripe, proof.invoiced) == (
        107,
        107,
        100,
        100,
        None,
    )
    assert (proof.unreported, proof.to_invoice) == (7, 100)
    assert {cause["code"] for cause in proof.causes} == {"unreported", "to_invoice"}


class TestWhileCallsAreServed:
    def test_what_is_stored_and_reported_between_two_queries_is_no_difference(self, subscribed):
        subscribed.use(10)
        report_usage()
        busy = []

        def go_on(execute, sql, params, many, context):
            found = execute(sql, params, many, context)
            if not busy and "SELECT" in sql and "usage_" in sql:
                busy.append(sql)
                subscribed.use(1)
                reports.make_reports()
                busy.clear()
            return found

        with connection.execute_wrapper(go_on):
            proof = of_april(subscribed)

        assert proof.ledger > 10
        assert proof.status == Proof.Status.RUNNING

    def test_what_stripe_is_told_before_it_is_asked_is_no_difference(self, subscribed, monkeypatch):
        subscribed.use(10)

        def first_told(*of_what):
            report_usage()
            return asker(*of_what)

        monkeypatch.setattr(storing, "asker", first_told)
        proof = of_april(subscribed)

        assert (proof.status, proof.stripe, proof.reported) == (Proof.Status.RUNNING, 10, 10)


def test_a_month_whose_invoice_is_still_a_draft_waits_for_it(subscribed):
    subscribed.use(100)
    report_usage()
    subscribed.wait_until(MAY)
    subscribed.see()

    proof = of_april(subscribed)

    assert (proof.status, proof.invoiced, proof.to_invoice) == (Status.WAITING, None, 100)


class TestBrokenByHand:
    def test_a_row_deleted_from_the_ledger_is_one_unit_and_its_hour(self, april):
        row = UsageEvent.objects.filter(occurred_at__lt=MAY).order_by("occurred_at").last()
        UsageEvent.objects.filter(id=row.id).delete()

        cause = only_cause(of_april(april))

        assert (cause["code"], cause["units"]) == ("ledger_short", 30)
        assert cause["sentence"].startswith(
            "The ledger has 30 units less than its hourly sums: rows are missing from the ledger "
            "of 2026-04-11 13h (-30)"
        )

    def test_a_row_doubled_in_the_ledger_is_shown_beside_its_twin(self, april):
        twin, copy = copy_in_ledger(units=30)

        cause = only_cause(of_april(april))

        assert (cause["code"], cause["units"]) == ("ledger_over", 30)
        assert str(twin) in cause["sentence"]
        assert str(copy) in cause["sentence"]

    def test_a_sum_that_was_changed_is_found_by_its_hour(self, april):
        UsageRollup.objects.filter(units=30).update(units=29, reported_units=29)

        proof = of_april(april)

        assert proof.status == Status.DIFFERS
        assert [(c["code"], c["units"]) for c in proof.differences] == [
            ("ledger_over", 1),
            ("reports_over", 1),
        ]
        assert "the sums lack what happened of 2026-04-11 13h (+1)" in proof.causes[0]["sentence"]

    def test_a_report_deleted_after_it_was_sent_is_known_by_stripe_s_count(self, april):
        MeterReport.objects.filter(units=30).delete()

        proof = of_april(april)

        assert [(c["code"], c["units"]) for c in proof.differences] == [
            ("reports_short", 30),
            ("stripe_over", 30),
        ]
        assert "of 2026-04-11 13h (-30)" in proof.causes[0]["sentence"]
        assert "Stripe has counted them: the row was lost after it was sent." in proof.causes[0]["sentence"]
        assert "30 of them are in a report that is missing here." in proof.causes[1]["sentence"]

    def test_a_report_deleted_before_it_was_sent_is_known_too(self, subscribed):
        subscribed.use(30)
        reports.make_reports()
        MeterReport.objects.all().delete()

        cause = next(c for c in of_april(subscribed).differences)

        assert (cause["code"], cause["units"]) == ("reports_short", 30)
        assert "Stripe has not counted them" in cause["sentence"]

    def test_a_report_doubled_and_sent_is_named_beside_the_other(self, april):
        first, second = copy_report(units=30, sent=True)

        cause = next(c for c in of_april(april).differences)

        assert (cause["code"], cause["units"]) == ("reports_over", 30)
        assert first.identifier in cause["sentence"]
        assert second.identifier in cause["sentence"]

    def test_an_event_that_somebody_else_sends_to_the_meter_is_120_too_many(self, subscribed):
        subscribed.use(100)
        report_usage()
        event_at_stripe(subscribed, units=120)

        cause = only_cause(of_april(subscribed))

        assert cause == {
            "code": "stripe_over",
            "units": 120,
            "settled": False,
            "sentence": "Stripe counted 120 units more than were reported. A report was counted twice, or somebody "
            "else reports to this meter.",
        }

    def test_a_report_that_came_after_its_invoice_was_final_is_told_with_both_times(self, april):
        use_late(april, units=12)
        report_usage()

        cause = only_cause(of_april(april))

        assert (cause["code"], cause["units"]) == ("invoice_short", 12)
        number = april.last_invoice().number
        assert cause["sentence"].startswith(
            f"{number} was finalized on 2026-05-01 01:00 before 12 units were reported, from 2026-05-01 02:00 on"
        )

    def test_a_report_that_stripe_refused_is_told_in_its_words(self, april):
        use_late(april, units=12)
        refuse()

        cause = only_cause(of_april(april))

        assert (cause["code"], cause["units"]) == ("refused", 12)
        assert cause["sentence"].startswith(
            "1 report of 12 units was refused by Stripe: timestamp_too_far_in_past"
        )

    def test_calls_that_were_sold_and_are_on_no_invoice_are_told(self, subscribed):
        """Complaint 13: events accepted, never billed."""
        subscribed.use(100)
        report_usage()
        subscribed.api.subscriptions.cancel(subscribed.subscription_id)
        subscribed.wait(days=2)
        subscribed.see()

        cause = only_cause(of_april(subscribed))

        assert (cause["code"], cause["units"]) == ("invoice_short", 100)
        assert (
            cause["sentence"]
            == "100 units of Stripe's count are on no invoice: the subscription ended without one."
        )
