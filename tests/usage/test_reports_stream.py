"""Many reports at once go by Stripe's meter event stream, and everything that holds for one still holds."""

import logging
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.db import connections

from accounts import clock
from billing.errors import StripeRejected, StripeUnavailable
from billing.locks import lock_key
from billing.models import Meter
from billing.stripe import metering_stream
from billing.stripe.catalog import publish_meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.metering_stream import StreamedEvent, stream_meter_events
from tests.billing.troubles import move, sandbox_time
from tests.usage.outbox import companies, counted, requests_to, use
from usage import claims, reports, streaming
from usage.models import MeterReport
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db

State = MeterReport.State
STREAM = "/v2/billing/meter_event_stream"
SESSION = "/v2/billing/meter_event_session"
ONE = "/v1/billing/meter_events"
HOUR = timedelta(hours=1)


@pytest.fixture
def hands(sandbox):
    with clock.standing_at(sandbox_time(sandbox)) as hands:
        yield hands


@pytest.fixture
def rivals(sandbox, hands, plans, monkeypatch):
    """Twelve companies; more than five reports are many here."""
    publish_meter(Meter.objects.get(slug="requests"))
    monkeypatch.setattr(reports, "STREAM_ABOVE", 5)
    return companies(12)


def use_all(rivals: Any, *, hours: int = 1) -> None:
    for number, rival in enumerate(rivals, start=1):
        for hour in range(hours, 0, -1):
            use(rival, units=number, at=clock.now() - hour * HOUR)


def test_many_reports_take_one_request(sandbox, rivals):
    use_all(rivals)

    assert report_usage() == 12
    assert (requests_to(sandbox, STREAM), requests_to(sandbox, ONE)) == (1, 0)
    assert [counted(rival) for rival in rivals] == list(range(1, 13))


def test_one_whose_date_stripe_does_not_tell_any_more_is_given_back_and_holds_up_no_other(
    rivals, monkeypatch
):
    use_all(rivals)
    real, asked = claims.moment_of, []

    def answer_once(report, **what):
        asked.append(report.organization)
        if report.organization == rivals[0] and asked.count(rivals[0]) > 1:
            raise StripeUnavailable("Stripe does not tell what else is on an invoice.")
        return real(report, **what)

    monkeypatch.setattr(claims, "moment_of", answer_once)

    assert report_usage() == 11

    waiting = MeterReport.objects.exclude(state=State.SENT).get()
    assert (waiting.organization, waiting.state, waiting.tries) == (rivals[0], State.PENDING, 0)


def test_few_reports_go_one_by_one_so_that_stripe_judges_them_at_once(sandbox, rivals):
    use_all(rivals[:5])
    report_usage()

    assert (requests_to(sandbox, STREAM), requests_to(sandbox, ONE)) == (0, 5)


def test_a_request_holds_one_report_of_each_customer_and_meter(sandbox, rivals, monkeypatch):
    told = []
    real = streaming.stream_meter_events

    def listen(events):
        told.append([(event.customer_id, event.timestamp) for event in events])
        real(events)

    monkeypatch.setattr(streaming, "stream_meter_events", listen)
    use_all(rivals, hours=3)
    report_usage()

    customers = sorted(ensure_customer(rival).id for rival in rivals)
    assert [sorted(customer for customer, _ in request) for request in told] == [customers] * 3
    for customer in customers:
        moments = [at for request in told for who, at in request if who == customer]
        assert moments == sorted(moments)
    assert sum(map(counted, rivals)) == 3 * sum(range(1, 13))


def test_one_that_another_worker_has_in_hand_keeps_back_its_own_organization_alone(sandbox, rivals):
    use_all(rivals)
    reports.make_reports()
    claims.claim(MeterReport.objects.get(organization=rivals[0]).pk)
    # Of an earlier hour than the one on its way: its turn would be now.
    use(rivals[0], units=20, at=clock.now() - 3 * HOUR)
    reports.make_reports()
    assert MeterReport.objects.heads(now=clock.now()).filter(organization=rivals[0]).count() == 0

    assert report_usage() == 11
    assert MeterReport.objects.get(units=20).state == State.PENDING


def test_one_that_another_worker_took_since_keeps_no_other_from_being_claimed(sandbox, rivals):
    use_all(rivals)
    use(rivals[0], units=20, at=clock.now() - 3 * HOUR)
    reports.make_reports()
    later = MeterReport.objects.filter(organization=rivals[0], units=1)
    later.update(state=State.SENDING, claimed_at=clock.now())

    assert len(claims.claim_all(list(MeterReport.objects.values_list("pk", flat=True)))) == 11


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "server_error", "rate_limit"])
def test_a_request_without_an_answer_leaves_all_its_reports_unknown_and_bills_none_twice(
    sandbox, rivals, kind
):
    use_all(rivals)
    fault = sandbox.faults.add(kind, path=STREAM)
    assert report_usage() == 0
    assert set(MeterReport.objects.values_list("state", "tries")) == {(State.UNKNOWN, 1)}
    before = set(MeterReport.objects.values_list("pk", "dated_at", "resends"))

    sandbox.faults.remove(fault.id)
    report_usage()

    assert set(MeterReport.objects.values_list("pk", "dated_at", "resends")) == before
    assert not MeterReport.objects.exclude(state=State.SENT).exists()
    assert [counted(rival) for rival in rivals] == list(range(1, 13))


def test_where_the_whole_request_is_refused_the_bad_row_is_told_from_the_good(sandbox, rivals, monkeypatch):
    def refuse(events):
        raise StripeRejected("Invalid request body.")

    use_all(rivals)
    reports.make_reports()
    # Stripe takes no value of more than this.
    MeterReport.objects.filter(organization=rivals[0]).update(units=1)
    real = reports.send_meter_event

    def refuse_the_bad(**event):
        if event["customer_id"] == ensure_customer(rivals[0]).id:
            raise StripeRejected("This one is bad.")
        real(**event)

    monkeypatch.setattr(streaming, "stream_meter_events", refuse)
    monkeypatch.setattr(reports, "send_meter_event", refuse_the_bad)

    assert report_usage() == 11
    report = MeterReport.objects.exclude(state=State.SENT).get()
    assert (report.organization, report.state, report.last_error) == (
        rivals[0],
        State.REJECTED,
        "This one is bad.",
    )
    assert [counted(rival) for rival in rivals[1:]] == list(range(2, 13))


def test_with_stripe_down_after_a_refused_request_the_rest_waits_unsent(sandbox, rivals, monkeypatch):
    def refuse(events):
        raise StripeRejected("Invalid request body.")

    def fail(**event):
        raise StripeUnavailable("down")

    use_all(rivals)
    monkeypatch.setattr(streaming, "stream_meter_events", refuse)
    monkeypatch.setattr(reports, "send_meter_event", fail)
    report_usage()

    states = list(MeterReport.objects.values_list("state", "first_sent_at", "tries"))
    assert states.count((State.PENDING, None, 0)) == 12 - reports.GIVE_UP_AFTER


@pytest.mark.django_db(transaction=True)
def test_a_customer_whose_plan_is_being_changed_is_not_waited_for(sandbox, rivals):
    use_all(rivals)
    changing = ensure_customer(rivals[3])
    key = lock_key(changing.id, kind=b"stripe-customer")
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [key])
        reports.make_reports()
        batch = streaming.claim_and_stream(list(MeterReport.objects.values_list("pk", flat=True)))
    finally:
        other.close()

    assert len(batch.told) == 11
    waiting = MeterReport.objects.exclude(state=State.SENT).get()
    assert (waiting.organization, waiting.state, waiting.dated_at) == (rivals[3], State.PENDING, None)
    assert report_usage() == 1
    assert counted(rivals[3]) == 4


def test_a_report_in_a_batch_is_dated_anew_where_the_plan_was_changed_in_between(
    sandbox, rivals, monkeypatch
):
    use_all(rivals)
    reports.make_reports()
    changed = ensure_customer(rivals[0]).id
    real = claims.moment_of
    dated = []

    def moment_of(report, **given):
        if report.stripe_customer_id == changed and report.pk in dated:
            return given["now"]
        dated.append(report.pk)
        return real(report, **given)

    monkeypatch.setattr(claims, "moment_of", moment_of)
    batch = streaming.claim_and_stream(list(MeterReport.objects.values_list("pk", flat=True)))

    assert len(batch.told) == 11
    assert MeterReport.objects.get(organization=rivals[0]).state == State.PENDING
    assert counted(rivals[0]) == 0


def test_usage_that_is_too_old_is_left_out_of_the_request(sandbox, rivals):
    use_all(rivals)
    use(rivals[0], units=99, at=clock.now() - timedelta(days=36))
    report_usage()

    assert MeterReport.objects.too_old().get().units == 99
    assert MeterReport.objects.filter(state=State.SENT).count() == 12


class TestTheSession:
    def event(self, rival: Any, name: str) -> StreamedEvent:
        return StreamedEvent("tollgate_requests", ensure_customer(rival).id, 1, name, clock.now())

    def test_serves_many_requests(self, sandbox, rivals):
        for number in range(3):
            stream_meter_events([self.event(rivals[0], f"event-{number}")])

        assert (requests_to(sandbox, SESSION), requests_to(sandbox, STREAM)) == (1, 3)

    def test_is_opened_anew_before_its_15_minutes_are_up(self, sandbox, hands, rivals):
        stream_meter_events([self.event(rivals[0], "first")])
        move(sandbox, hands, timedelta(minutes=14))
        stream_meter_events([self.event(rivals[0], "second")])

        assert (requests_to(sandbox, SESSION), requests_to(sandbox, STREAM)) == (2, 2)
        assert counted(rivals[0]) == 2

    def test_that_stripe_ended_early_is_opened_anew_and_the_request_sent_again(self, sandbox, rivals):
        stream_meter_events([self.event(rivals[0], "first")])
        sandbox.set_clock(advance=900)  # Of which our clock knows nothing.
        stream_meter_events([self.event(rivals[0], "second")])

        assert (requests_to(sandbox, SESSION), requests_to(sandbox, STREAM)) == (2, 3)
        assert counted(rivals[0]) == 2

    def test_of_another_key_is_not_used(self, sandbox, rivals):
        stream_meter_events([self.event(rivals[0], "first")])
        get_client.cache_clear()
        stream_meter_events([self.event(rivals[0], "second")])

        assert requests_to(sandbox, SESSION) == 2

    def test_goes_to_the_address_of_the_stream_and_to_no_other(self, settings, rivals):
        settings.STRIPE_API_BASE = stripe.DEFAULT_API_BASE
        get_client.cache_clear()
        asked = []
        carrier = stripe.default_http_client
        real = carrier.request

        class Listening(type(carrier)):
            def __init__(self) -> None:
                self.__dict__.update(carrier.__dict__)

            def request(self, method, url, *given, **more):
                asked.append(url)
                return real(method, url, *given, **more)

        stripe.default_http_client = Listening()
        try:
            metering_stream.sessions = metering_stream.Sessions()
            stream_meter_events([self.event(rivals[0], "first")])
        finally:
            stripe.default_http_client = carrier
            get_client.cache_clear()

        assert asked == [f"https://api.stripe.com{SESSION}", f"https://meter-events.stripe.com{STREAM}"]

    def test_token_is_written_nowhere(self, sandbox, rivals, caplog):
        with caplog.at_level(logging.DEBUG):
            stream_meter_events([self.event(rivals[0], "first")])
            logging.getLogger("config").debug("%r", metering_stream.sessions.get())

        (token,) = (each.api_key for each in [metering_stream.sessions.get().client._requestor])
        assert token.startswith("token_test_")
        assert token not in caplog.text
