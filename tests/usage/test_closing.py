"""A period's last usage is on its invoice where Stripe has it in time; what comes later is known to be late."""

from datetime import UTC, datetime, timedelta

import pytest
from djstripe import models as djstripe

from accounts import clock
from billing.errors import UsageNotReported
from billing.models import Meter
from billing.stripe.changing import change_plan
from billing.stripe.client import get_client
from billing.stripe.subscriptions import sync_subscriptions
from billing.stripe.webhook_endpoints import ensure_webhook_endpoint
from tests.billing.cast import deliver
from tests.usage.cast import make_event, serve
from tests.usage.outbox import companies, counted, use
from usage import reports, tasks
from usage.closed import closed_periods
from usage.lateness import is_too_late, too_late_reports
from usage.ledger import store
from usage.models import MeterReport
from usage.tasks import flush_before_closing, report_usage

pytestmark = pytest.mark.django_db

State = MeterReport.State
APRIL = datetime(2026, 4, 1, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
LAST_SECOND = MAY - timedelta(seconds=1)


@pytest.fixture
def metered(acme, plans):
    """Acme on a Pro that bills what goes beyond 100 units, whose April ends in a second."""
    acme.bill_overage(plans.pro, included=100, cents="10")
    acme.subscribe(plans.pro)
    acme.wait_until(LAST_SECOND)
    acme.see()
    return acme


@pytest.fixture
def queued(monkeypatch):
    """The organizations that a worker was asked to report the usage of."""
    ids: list[str] = []
    monkeypatch.setattr(tasks.flush_before_closing, "delay", ids.append)
    return ids


def draft(acme, capture) -> None:
    """Let the month end, and Stripe tell of the invoice that it has drafted."""
    acme.wait_until(MAY + timedelta(seconds=30))
    news = [each for each in acme.sandbox.webhooks.pending() if each.event_type == "invoice.created"]
    with capture(execute=True):
        assert set(deliver(acme.sandbox, news)) == {200}


def test_a_call_of_the_last_second_that_is_drained_in_the_next_period_is_on_its_own_invoice(
    metered, api_key, queued, django_capture_on_commit_callbacks
):
    ensure_webhook_endpoint()
    serve(api_key, calls=7)
    draft(metered, django_capture_on_commit_callbacks)
    assert queued == [str(metered.organization.pk)]
    assert not MeterReport.objects.exists()

    assert flush_before_closing(*queued) == 1
    metered.wait(hours=2)
    metered.see()

    report = MeterReport.objects.get()
    assert report.dated_at == LAST_SECOND.replace(minute=0, second=0)
    assert metered.invoiced_units() == 7
    assert not is_too_late(report)


def test_the_invoice_of_a_subscription_s_first_day_asks_for_nothing(
    acme, plans, queued, django_capture_on_commit_callbacks
):
    ensure_webhook_endpoint()
    acme.subscribe(plans.pro)
    news = [each for each in acme.sandbox.webhooks.pending() if each.event_type == "invoice.created"]
    with django_capture_on_commit_callbacks(execute=True):
        assert set(deliver(acme.sandbox, news)) == {200}

    assert news
    assert queued == []


def test_reporting_before_the_invoice_closes_is_tried_again_for_longer_than_an_hour(
    organization, monkeypatch
):
    def fail(organization):
        raise UsageNotReported

    waits = []

    def retry(*given, countdown=None, exc=None, **more):
        waits.append(countdown)
        raise exc

    monkeypatch.setattr(tasks, "flush_usage", fail)
    monkeypatch.setattr(tasks.flush_before_closing, "retry", retry)
    for tries in range(tasks.flush_before_closing.max_retries):
        tasks.flush_before_closing.push_request(retries=tries)
        with pytest.raises(UsageNotReported):
            tasks.flush_before_closing.run(str(organization.pk))
        tasks.flush_before_closing.pop_request()

    assert timedelta(seconds=sum(waits)) > timedelta(minutes=70)
    assert max(waits) <= 120


class TestWhatCameTooLate:
    @pytest.fixture
    def late(self, metered):
        """Seven units of April's last hour and three of May's first, found after April's invoice was closed."""
        metered.wait_until(MAY + timedelta(hours=3))
        metered.see()
        for at, units, period_start in [(LAST_SECOND, 7, APRIL), (MAY + timedelta(hours=1), 3, MAY)]:
            event = make_event(
                organization_id=metered.organization.pk, at=at, units=units, period_start=period_start
            )
            store([event])
        reports.make_reports()
        return metered

    @pytest.mark.parametrize("is_sent", [False, True])
    def test_is_known_before_it_is_sent_and_after(self, late, is_sent):
        if is_sent:
            assert report_usage() == 2

        meter = Meter.objects.get(slug="requests")
        april, may = MeterReport.objects.order_by("hour")

        assert (is_too_late(april), is_too_late(may)) == (True, False)
        ((report, period),) = too_late_reports(late.organization, meter)
        assert report == april
        assert (period.start, period.end, period.finalized_at) == (APRIL, MAY, MAY + timedelta(hours=1))
        assert period.invoice_id == late.last_invoice().id

    def test_is_told_to_stripe_where_it_was_used_and_moves_no_other_bill(self, late):
        report_usage()
        late.wait_until(datetime(2026, 6, 1, 2, tzinfo=UTC))

        assert MeterReport.objects.order_by("hour")[0].dated_at == LAST_SECOND.replace(minute=0, second=0)
        assert counted(late.organization) == 10
        assert late.invoiced_units() == 3

    def test_is_nothing_that_came_while_the_invoice_was_a_draft(self, metered):
        metered.wait_until(MAY + timedelta(minutes=30))
        metered.see()
        store(
            [make_event(organization_id=metered.organization.pk, at=LAST_SECOND, units=7, period_start=APRIL)]
        )
        report_usage()
        metered.wait(hours=2)
        metered.see()

        assert not is_too_late(MeterReport.objects.get())
        assert metered.invoiced_units() == 7

    def test_is_nothing_where_the_invoice_was_voided(self, late):
        meter = Meter.objects.get(slug="requests")
        assert closed_periods(late.organization, meter)
        invoice = djstripe.Invoice.objects.get(id=late.last_invoice().id)
        invoice.stripe_data["status"] = "void"
        invoice.save()

        assert closed_periods(late.organization, meter) == []

    def test_of_a_plan_that_was_changed_is_what_came_after_the_change_s_invoice(self, acme, plans):
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.bill_overage(plans.team, included=100, cents="5")
        acme.subscribe(plans.pro)
        acme.wait(days=10)
        acme.use(20)
        change_plan(acme.organization, plan=plans.team)
        acme.see()
        acme.wait(days=1)
        acme.use(5)
        report_usage()

        assert [is_too_late(report) for report in MeterReport.objects.all()] == [False, False]
        # Had it come a day later, by hand:
        first = MeterReport.objects.order_by("hour")[0]
        MeterReport.objects.filter(pk=first.pk).update(sent_at=clock.now())
        meter = Meter.objects.get(slug="requests")
        assert [report for report, _ in too_late_reports(acme.organization, meter)] == [first]

    def test_of_what_was_never_subscribed_to_is_nothing(self, acme, plans):
        acme.use(20)
        report_usage()
        acme.wait(days=35)
        acme.see()

        assert get_client().v1.invoices.list({"customer": acme.customer_id}).data == []
        assert not is_too_late(MeterReport.objects.get())


class TestAChangeInThePeriodsLastSeconds:
    """Calls served before it and reported after the renewal: the change's invoice is closed, the renewal's is not."""

    @pytest.fixture
    def changed(self, acme, plans):
        """Acme, who went from Pro to Team two seconds before April's end, with 7 units of before still unreported."""
        acme.bill_overage(plans.pro, included=100, cents="10")
        acme.bill_overage(plans.team, included=100, cents="5")
        acme.subscribe(plans.pro)
        acme.wait_until(MAY - timedelta(hours=1))
        acme.use(130)
        acme.wait_until(MAY - timedelta(seconds=2))
        change_plan(acme.organization, plan=plans.team)
        acme.wait_until(MAY + timedelta(minutes=10))
        event = make_event(
            organization_id=acme.organization.pk,
            at=MAY - timedelta(minutes=1),
            units=7,
            period_start=APRIL,
        )
        store([event])
        return acme

    @pytest.mark.parametrize("is_seen", [True, False])
    def test_are_on_the_renewal_s_invoice(self, changed, is_seen):
        if is_seen:
            changed.see()
        report_usage()
        changed.wait(hours=2)
        changed.see()

        report = MeterReport.objects.get(units=7)
        assert report.dated_at == MAY - timedelta(seconds=2)
        assert changed.invoiced_units() == 137
        assert not is_too_late(report)

    def test_also_where_only_the_subscription_is_known_to_have_renewed(self, changed):
        sync_subscriptions(changed.customer_id)
        report_usage()
        changed.wait(hours=2)

        assert changed.invoiced_units() == 137

    def test_are_too_late_once_that_one_is_closed_and_are_told_where_they_were_used(self, changed):
        changed.wait(hours=2)
        changed.see()
        report_usage()

        report = MeterReport.objects.get(units=7)
        assert report.dated_at == MAY - timedelta(hours=1)
        assert is_too_late(report)
        assert changed.invoiced_units() == 130

    def test_what_was_used_in_the_new_period_stays_there(self, changed):
        changed.see()
        changed.use(5)
        report_usage()

        assert MeterReport.objects.get(units=5).dated_at == MAY

    class TestWithAnInvoiceOfManyLines:
        """The mirror has the first lines of each invoice, and here none of the meter's."""

        @pytest.fixture
        def many_lines(self, changed):
            changed.see()
            for invoice in djstripe.Invoice.objects.all():
                data = invoice.stripe_data
                data["lines"] = {**data["lines"], "data": [], "has_more": True}
                djstripe.Invoice.objects.filter(pk=invoice.pk).update(stripe_data=data)
            return changed

        def test_are_on_the_renewal_s_invoice_too(self, many_lines):
            report_usage()

            assert MeterReport.objects.get(units=7).dated_at == MAY - timedelta(seconds=2)

        def test_wait_for_stripe_to_tell_of_it_and_hold_up_no_other(self, many_lines, sandbox):
            (rival,) = companies(1)
            use(rival, units=3)
            fault = sandbox.faults.add("server_error", path="/v1/invoices/*")
            assert report_usage() == 1
            waiting = MeterReport.objects.get(units=7)
            assert (waiting.state, waiting.tries, waiting.dated_at) == (State.PENDING, 0, None)

            sandbox.faults.remove(fault.id)
            assert report_usage() == 1
