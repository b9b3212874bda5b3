"""Usage that Stripe took and rejects later: the reports say so, staff hear of it, and it can be sent again."""

import logging
from datetime import timedelta

import pytest

from accounts import clock
from billing.models import Meter, ThinEvent
from billing.signals import meter_events_rejected
from billing.stripe.catalog import publish_meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.event_destinations import settle_event_destination
from billing.stripe.metering import send_meter_event
from billing.thin_events import fetch_details
from sandbox.meters.metering_settings import configure
from tests.billing.cast import deliver
from tests.billing.doctoring import found, only
from tests.billing.troubles import move, sandbox_time
from tests.usage.outbox import companies, counted, use
from usage import reports
from usage.models import Correction, MeterReport
from usage.rejections import find_unnamed, note_rejected, unnamed_count
from usage.settling import put_back, send_again, settle_unanswered
from usage.tasks import report_usage, settle_reports

pytestmark = pytest.mark.django_db

State = MeterReport.State
HOUR = timedelta(hours=1)


@pytest.fixture
def hands(sandbox):
    with clock.standing_at(sandbox_time(sandbox)) as hands:
        yield hands


@pytest.fixture
def customer(sandbox, hands, organization):
    """Acme, a customer, with Stripe's meter published and its thin events coming to us."""
    publish_meter(Meter.objects.get(slug="requests"))
    settle_event_destination()
    ensure_customer(organization)
    return organization


def stop_meter() -> None:
    """Have Stripe count nothing more, as somebody at its dashboard can; it takes the events all the same."""
    get_client().v1.billing.meters.deactivate(Meter.objects.get(slug="requests").stripe_meter_id)


def start_meter() -> None:
    get_client().v1.billing.meters.reactivate(Meter.objects.get(slug="requests").stripe_meter_id)


def hear(sandbox, hands) -> ThinEvent:
    """Let Stripe gather its errors and tell of them."""
    move(sandbox, hands, timedelta(seconds=10))
    told = [each for each in sandbox.webhooks.pending() if "/stripe/thin/" in each.url]
    assert deliver(sandbox, told) == [200] * len(told)
    event = ThinEvent.objects.without_details().get()
    fetch_details(event.id)
    event.refresh_from_db()
    return event


def rejected(sandbox, hands, customer, *, units: int = 5) -> tuple[MeterReport, ThinEvent]:
    """Have a report taken and rejected."""
    stop_meter()
    use(customer, units=units)
    report_usage()
    report = MeterReport.objects.get()
    assert report.state == State.SENT
    event = hear(sandbox, hands)
    report.refresh_from_db()
    return report, event


def test_what_stripe_rejects_later_is_marked_with_its_reason_and_raised_to_staff(
    sandbox, hands, customer, caplog
):
    report, event = rejected(sandbox, hands, customer)

    assert (report.state, report.rejection_code) == (State.REJECTED, "archived_meter")
    assert report.last_error == "The meter for event name tollgate_requests is not active."
    assert report.refused_in == event
    assert (logging.ERROR, True) in [
        (record.levelno, report.identifier in record.getMessage()) for record in caplog.records
    ]
    finding = only("rejected-reports")
    assert finding.organization == customer
    assert finding.sentence.startswith("Reports of 5 calls of Acme, the oldest of ")
    assert finding.sentence.endswith("The meter for event name tollgate_requests is not active.")
    assert only("meter-errors").subject == event.id


def test_a_rejection_that_comes_after_the_invoice_is_marked_all_the_same(sandbox, hands, customer):
    configure(sandbox, report_after=3 * 86400)
    stop_meter()
    use(customer, units=5)
    report_usage()
    move(sandbox, hands, timedelta(days=3))
    hear(sandbox, hands)

    assert MeterReport.objects.get().state == State.REJECTED


@pytest.mark.parametrize("state", [State.SENT, State.UNKNOWN, State.SENDING, State.PENDING, State.REJECTED])
def test_stripe_s_judgement_holds_whatever_we_thought_of_the_report(sandbox, hands, customer, state):
    stop_meter()
    use(customer, units=5)
    report_usage()
    MeterReport.objects.update(state=state)
    event = hear(sandbox, hands)

    report = MeterReport.objects.get()
    assert (report.state, report.refused_in) == (State.REJECTED, event)


def test_the_news_can_come_twice(sandbox, hands, customer):
    report, event = rejected(sandbox, hands, customer)

    assert note_rejected(event, event.samples) == 0
    meter_events_rejected.send(sender=ThinEvent, event=event, samples=event.samples)
    assert MeterReport.objects.get().refused_at == report.refused_at


def test_where_marking_fails_the_details_are_fetched_once_more(sandbox, hands, customer, monkeypatch):
    def fail(**news):
        raise RuntimeError("the worker was killed")

    stop_meter()
    use(customer, units=5)
    report_usage()
    meter_events_rejected.connect(fail)
    with pytest.raises(RuntimeError):
        hear(sandbox, hands)
    meter_events_rejected.disconnect(fail)

    fetch_details(ThinEvent.objects.without_details().get().id)
    assert MeterReport.objects.get().state == State.REJECTED


def test_identifiers_that_are_not_ours_are_left_alone(sandbox, hands, customer):
    stop_meter()
    for identifier in ("of-another-system", "tollgate-not-a-uuid", "tollgate-"):
        send_meter_event(
            event_name="tollgate_requests",
            customer_id=ensure_customer(customer).id,
            value=1,
            identifier=identifier,
            timestamp=clock.now(),
        )
    event = hear(sandbox, hands)

    assert event.error_count == 3
    assert unnamed_count(event) == 0


class TestAheadOfStripesClock:
    @pytest.fixture
    def ahead(self, sandbox, hands, customer, monkeypatch):
        """What the stream took that begins later by Stripe's clock, and Stripe told of that."""
        monkeypatch.setattr(reports, "STREAM_ABOVE", 0)
        monkeypatch.setattr(reports, "STREAM_AT_LEAST", 1)
        at_stripe = clock.now().replace(minute=50, second=0) + HOUR
        move(sandbox, hands, at_stripe - clock.now())
        hands.move(at_stripe + timedelta(minutes=15))
        use(customer, units=5)
        report_usage()
        sandbox.set_clock(advance=15 * 60)
        hear(sandbox, hands)
        report = MeterReport.objects.get()
        assert (report.state, report.rejection_code) == (State.REJECTED, "timestamp_in_future")
        return report

    def test_it_is_sent_again_by_itself_an_hour_later_as_one_that_went_alone(
        self, sandbox, hands, customer, ahead
    ):
        assert settle_reports() == {"rejected": 0}
        move(sandbox, hands, HOUR)

        assert settle_reports() == {"rejected": 0, "ahead": 1}
        report_usage()

        assert counted(customer) == 5
        assert MeterReport.objects.get().identifier == f"{ahead.identifier}.1"
        assert settle_reports() == {"rejected": 0}

    def test_what_no_sample_names_waits_for_a_person(self, sandbox, hands, customer, ahead):
        ThinEvent.objects.update(data={})
        move(sandbox, hands, HOUR)

        assert settle_reports()["rejected"] == 0
        assert MeterReport.objects.get().state == State.REJECTED

    def test_what_a_correction_bills_is_not_sent_again(self, sandbox, hands, customer, ahead):
        kept = Correction.objects.create(
            organization=customer,
            meter=ahead.meter,
            period_start=ahead.period_start,
            number=1,
            units=5,
            total=5,
            amount=0,
        )
        MeterReport.objects.update(correction=kept)
        move(sandbox, hands, HOUR)

        assert settle_reports() == {"rejected": 0}
        assert MeterReport.objects.get().state == State.REJECTED


class TestSendingAgain:
    def test_gets_it_counted_though_stripe_still_knows_the_old_identifier(self, sandbox, hands, customer):
        report, event = rejected(sandbox, hands, customer)
        old = report.identifier
        start_meter()

        send_again(customer, [report.pk])

        report.refresh_from_db()
        assert (report.state, report.refused_in, report.rejection_code) == (State.SENT, None, "")
        assert report.identifier == f"{old}.1"
        assert counted(customer) == 5
        # Late news of the first sending is no news of the second.
        assert note_rejected(event, event.samples) == 0
        assert found("rejected-reports") == []

    def test_under_the_old_identifier_would_have_been_passed_over(self, sandbox, hands, customer):
        report, _ = rejected(sandbox, hands, customer)
        start_meter()

        send_meter_event(
            event_name="tollgate_requests",
            customer_id=report.stripe_customer_id,
            value=report.units,
            identifier=report.identifier,
            timestamp=report.moment,
        )

        assert counted(customer) == 0

    def test_keeps_the_identifier_of_what_stripe_never_took(self, sandbox, hands, customer):
        use(customer, units=5)
        reports.make_reports()
        report = MeterReport.objects.get()
        MeterReport.objects.update(state=State.REJECTED, last_error="No such meter.")

        assert put_back([report.pk]) == 1
        assert MeterReport.objects.get().identifier == report.identifier

    def test_twice_at_once_sends_it_once(self, sandbox, hands, customer):
        report, _ = rejected(sandbox, hands, customer)
        start_meter()

        assert [put_back([report.pk]), put_back([report.pk])] == [1, 0]
        report_usage()
        assert counted(customer) == 5

    def test_what_is_rejected_once_more_is_marked_once_more(self, sandbox, hands, customer):
        report, _ = rejected(sandbox, hands, customer)
        send_again(customer, [report.pk])
        second = hear(sandbox, hands)

        report.refresh_from_db()
        assert (report.state, report.refused_in, report.resends) == (State.REJECTED, second, 1)


class TestMoreThanStripeNames:
    @pytest.fixture
    def eight(self, customer):
        """Companies that use 1 to 8 units."""
        rivals = companies(8)
        for number, rival in enumerate(rivals, start=1):
            use(rival, units=number)
        return rivals

    def test_are_found_by_what_the_summaries_lack(self, sandbox, hands, customer, eight):
        use(customer, units=100)
        reports.make_reports()
        first = MeterReport.objects.get(organization=customer)
        claimed = reports.claim(first.pk)
        reports.send(claimed[0], customer_id=claimed[1])
        stop_meter()
        report_usage()
        event = hear(sandbox, hands)
        assert MeterReport.objects.filter(state=State.REJECTED).count() == 5
        assert unnamed_count(event) == 3
        (finding,) = [each for each in found("rejected-reports") if each.subject == event.id]
        assert finding.sentence.startswith("Stripe rejected 3 more meter events")

        assert find_unnamed() == 0  # The summaries may lag yet.
        move(sandbox, hands, HOUR)
        assert settle_reports()["rejected"] == 3

        assert MeterReport.objects.filter(refused_in=event).count() == 8
        assert MeterReport.objects.get(organization=customer).state == State.SENT
        assert unnamed_count(event) == 0
        assert settle_reports()["rejected"] == 0

    def test_are_found_though_somebody_has_seen_to_the_event(self, sandbox, hands, customer, eight, owner):
        stop_meter()
        report_usage()
        hear(sandbox, hands).acknowledge(by=owner, note="The meter runs again.")
        move(sandbox, hands, HOUR)

        assert settle_reports()["rejected"] == 3

    def test_and_than_can_be_told_stay_in_the_finding_until_somebody_has_seen_to_it(
        self, sandbox, hands, customer, eight, owner
    ):
        stop_meter()
        report_usage()
        event = hear(sandbox, hands)
        # Somebody else's usage makes up for what is missing.
        start_meter()
        for report in MeterReport.objects.filter(state=State.SENT):
            send_meter_event(
                event_name="tollgate_requests",
                customer_id=report.stripe_customer_id,
                value=report.units,
                identifier=f"other-{report.pk}",
                timestamp=report.moment,
            )
        move(sandbox, hands, 2 * HOUR)

        assert find_unnamed() == 0
        assert event.id in {each.subject for each in found("rejected-reports")}
        event.acknowledge(by=owner, note="Billed by hand.")
        assert event.id not in {each.subject for each in found("rejected-reports")}


def test_a_rejection_that_nobody_told_of_leaves_what_is_in_doubt_beside_it_in_doubt_or_bills_it_once(
    sandbox, hands, customer
):
    at = clock.now()
    stop_meter()
    use(customer, units=5, at=at)
    report_usage()
    start_meter()
    use(customer, units=5, at=at)
    fault = sandbox.faults.add("timeout_after", path="/v1/billing/meter_events")
    report_usage()
    sandbox.faults.remove(fault.id)
    move(sandbox, hands, 21 * HOUR)

    # The sum is that of the certain one: the other looks lost, and is not. Stripe still knows its identifier.
    assert settle_unanswered() == {"lost": 1}
    report_usage()

    assert counted(customer) == 5
