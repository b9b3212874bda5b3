"""`reconcile --repair` mends counts and reports that were broken by hand, and bills nothing twice."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from accounts import clock
from accounts.models import Organization
from billing.stripe.changing import change_plan
from billing.stripe.metering import cancel_meter_event
from sandbox.meters.metering_settings import configure
from tests.billing.acme import Acme
from tests.usage.outbox import counted
from tests.usage.proving import MAY, copy_in_ledger, copy_report, event_at_stripe, of_april, use_in
from tests.usage.repairing import left, mended
from tests.usage.test_flush import used_in_between
from usage import reports
from usage.models import MeterReport, Proof, UsageEvent, UsageRollup
from usage.proof import prove
from usage.repair import outbox, repair
from usage.repair.hours import rebuild_hours
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = MeterReport.State


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


def test_sums_that_are_gone_with_their_report_are_not_reported_again(subscribed):
    subscribed.use(100)
    subscribed.wait(hours=3)
    subscribed.use(30)
    report_usage()
    subscribed.wait(hours=5)
    UsageRollup.objects.filter(units=30).delete()
    MeterReport.objects.filter(units=30).delete()

    done = mended(subscribed)

    assert "Made a report of 30 units anew that Stripe has counted" in done[1]
    report_usage()
    assert counted(subscribed.organization) == 130


def test_sums_and_reports_of_before_the_last_report_are_not_reported_again(subscribed):
    subscribed.use(100)
    report_usage()
    subscribed.use(30)
    report_usage()
    subscribed.wait(hours=5)
    # As both tables are where they were brought back from a copy of before.
    MeterReport.objects.filter(units=30).delete()
    UsageRollup.objects.update(units=100, reported_units=100, calls=1)

    mended(subscribed)

    report_usage()
    assert counted(subscribed.organization) == 130


def test_sums_that_were_gone_before_they_were_reported_are_reported(subscribed):
    subscribed.use(30)
    UsageRollup.objects.all().delete()
    subscribed.wait(hours=3)

    mended(subscribed)

    assert of_april(subscribed).stripe == 30


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
    subscribed.wait(hours=2)

    first, second = mended(subscribed)

    assert first.endswith("30 units of 2026-04-11 10h are to be reported again: Stripe has none of them.")
    assert second == "Sent 1 report that was waiting."
    assert of_april(subscribed).stripe == 30


@pytest.fixture
def lost(subscribed, plans) -> Acme:
    """Acme, whose change to a yearly fee had 7 units dated after it, five hours ago, and their report's row is lost."""
    subscribed.use(130)
    with used_in_between(subscribed, 7):
        change_plan(subscribed.organization, plan=plans.pro, interval="year")
    subscribed.see()
    report_usage()
    subscribed.wait(hours=5)
    MeterReport.objects.get(units=7).delete()
    return subscribed


@pytest.mark.parametrize("used_since", [0, 200])
def test_a_lost_report_that_was_dated_after_a_change_to_a_year_is_made_anew_as_it_was(lost, used_since):
    if used_since:
        lost.use(used_since)
        report_usage()
        lost.wait(hours=3)

    (done,) = mended(lost)

    assert "Made a report of 7 units anew that Stripe has counted" in done
    lost.use(3)
    report_usage()
    lost.wait_until(datetime(2026, 5, 12, tzinfo=UTC))
    lost.see()
    assert {each.status for each in prove(lost.organization)} == {Proof.Status.PROVEN}
    assert lost.invoiced_units() == counted(lost.organization) == 140 + used_since


@pytest.mark.parametrize("others", [1, 93])
def test_a_lost_report_that_may_be_in_what_stripe_has_too_much_later_is_not_reported_again(lost, others):
    lost.use(200)
    report_usage()
    event_at_stripe(lost, units=others)
    lost.wait(hours=3)

    sentences = left(lost)

    assert (
        f"Stripe has counted {7 + others} units more than were reported, which may be the 7" in sentences[0]
    )
    assert counted(lost.organization) == 337 + others


def test_a_lost_report_that_stripe_may_have_yet_to_count_in_the_new_year_is_not_reported_again(
    subscribed, plans, sandbox
):
    configure(sandbox, lag=600)
    change_plan(subscribed.organization, plan=plans.pro, interval="year")
    subscribed.see()
    use_in(subscribed, clock.now() - timedelta(hours=5), units=7)
    subscribed.use(200)
    report_usage()
    MeterReport.objects.get(units=7).delete()

    assert "nothing was reported again" in left(subscribed)[0]
    subscribed.wait(hours=3)
    mended(subscribed)
    assert counted(subscribed.organization) == 207


def test_a_lost_report_that_stripe_may_have_yet_to_count_is_not_reported_again(subscribed, sandbox):
    configure(sandbox, lag=600)
    subscribed.use(30)
    report_usage()
    MeterReport.objects.all().delete()

    first, _ = left(subscribed)
    subscribed.wait(hours=2)
    mended(subscribed)

    assert "nothing was reported again" in first
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

    assert done.endswith("it arrived." if arrives else "it never arrived.")
    assert MeterReport.objects.get().state == State.SENT
    assert of_april(subscribed).stripe == 30


def test_what_stripe_has_not_counted_yet_of_others_does_not_make_one_without_an_answer_a_lost_one(
    subscribed, sandbox
):
    subscribed.use(7)
    fault = sandbox.faults.add("timeout_after", path="/v1/billing/meter_events")
    report_usage()
    sandbox.faults.remove(fault.id)
    # Nothing ran for two days: Stripe has forgotten the identifier.
    subscribed.wait(days=2)
    configure(sandbox, lag=600)
    subscribed.use(7)

    repair(subscribed.organization)
    report_usage()
    subscribed.wait(hours=1)

    assert of_april(subscribed).stripe == 14


def test_rebuilding_an_hour_keeps_what_others_have_in_it(april, outsider):
    rival: Organization = outsider.memberships.get().organization
    before = list(UsageRollup.objects.order_by("hour").values_list("units", "reported_units"))
    hours = UsageRollup.objects.values_list("hour", flat=True)

    assert rebuild_hours(april.organization.pk, "requests", list(hours)) == 0
    assert rebuild_hours(rival.pk, "requests", list(hours)) == 0

    assert list(UsageRollup.objects.order_by("hour").values_list("units", "reported_units")) == before
    assert clock.now() > MAY
