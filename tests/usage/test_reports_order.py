"""Reports of one customer and meter go in the order of their hours, and what cannot go holds up nothing behind it."""

from datetime import timedelta

import pytest
from django.db import connection, connections
from django.utils import timezone

from billing.errors import StripeRejected, StripeUnavailable, UsageNotReported
from billing.locks import customer_lock, lock_key
from billing.models import Meter
from billing.stripe.catalog import publish_meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.usage.outbox import counted, use
from usage import reports
from usage.flush import flush_usage
from usage.models import MeterReport
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = MeterReport.State


@pytest.fixture
def customer(sandbox, organization):
    """Acme as Stripe knows it, with the meter published."""
    publish_meter(Meter.objects.get(slug="requests"))
    return ensure_customer(organization)


class Told(list[int]):
    """What Stripe was told, in order; it gives no answer to some of it, and refuses some."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: set[int] = set()
        self.refused: set[int] = set()


class TestTheOrderOfACustomersReports:
    @pytest.fixture
    def five_hours(self, organization, customer):
        """Reports of five hours, the oldest first."""
        now = timezone.now()
        for hours in (3, 5, 1, 4, 2):
            use(organization, units=hours, at=now - timedelta(hours=hours))
        reports.make_reports()
        return list(MeterReport.objects.order_by("hour"))

    @pytest.fixture
    def told(self, monkeypatch):
        """The units of each report as Stripe hears of them; those in `told.silent` get no answer."""
        real = reports.send_meter_event
        told = Told()

        def listen(**event):
            told.append(event["value"])
            if event["value"] in told.silent:
                raise StripeUnavailable("no answer")
            if event["value"] in told.refused:
                raise StripeRejected("no such meter")
            real(**event)

        monkeypatch.setattr(reports, "send_meter_event", listen)
        return told

    def test_is_that_of_their_hours(self, five_hours, told):
        report_usage()

        assert told == [5, 4, 3, 2, 1]

    def test_a_later_one_is_not_claimed_before_its_turn(self, five_hours):
        assert all(reports.claim(report.pk) is None for report in five_hours[1:])
        assert reports.claim(five_hours[0].pk) is not None

    def test_one_without_an_answer_is_tried_again_before_those_behind_it_go(self, five_hours, told):
        told.silent = {4}
        report_usage()
        assert told == [5, 4]

        told.silent = set()
        report_usage()
        assert told == [5, 4, 4, 3, 2, 1]

    def test_one_that_is_rejected_holds_nothing_up(self, five_hours, told):
        told.refused = {5, 3}
        report_usage()

        assert told == [5, 4, 3, 2, 1]
        assert MeterReport.objects.filter(state=State.SENT).count() == 3

    def test_one_that_was_without_an_answer_for_too_long_holds_nothing_up(self, five_hours, told):
        long_ago = timezone.now() - MeterReport.RESEND_LIMIT
        MeterReport.objects.filter(pk=five_hours[0].pk).update(state=State.UNKNOWN, first_sent_at=long_ago)
        report_usage()

        assert told == [4, 3, 2, 1]

    def test_one_that_stripe_knows_already_holds_nothing_up(self, five_hours, told, customer, organization):
        get_client().v1.billing.meter_events.create(
            {
                "event_name": "tollgate_requests",
                "payload": {"stripe_customer_id": customer.id, "value": "5"},
                "identifier": five_hours[0].identifier,
                "timestamp": int(five_hours[0].timestamp.timestamp()),
            }
        )
        report_usage()

        assert not MeterReport.objects.exclude(state=State.SENT).exists()
        assert counted(organization) == 15

    def test_another_meter_does_not_wait_for_it(self, organization, five_hours, told):
        tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
        publish_meter(tokens)
        use(organization, units=70, meter="tokens")
        told.silent = {5}
        report_usage()

        assert told == [5, 70]


@pytest.mark.django_db(transaction=True)
def test_one_whose_customer_is_busy_for_long_is_dated_anew_at_its_next_turn(
    organization, customer, monkeypatch
):
    """Kept waiting past its lease it would count as told, and go with the moment from before the change of plan."""
    monkeypatch.setattr(reports, "WAIT_FOR", timedelta(milliseconds=50))
    use(organization, units=5)
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [lock_key(customer.id, kind=b"stripe-customer")])
        assert report_usage() == 0
        waiting = MeterReport.objects.get()
        with pytest.raises(UsageNotReported):
            flush_usage(organization, within=timedelta())
    finally:
        other.close()

    assert (waiting.state, waiting.dated_at, waiting.first_sent_at) == (State.PENDING, None, None)
    assert report_usage() == 1
    assert counted(organization) == 5


def test_nothing_else_in_the_transaction_is_kept_to_the_customer_s_time():
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        usual = cursor.fetchone()
        with customer_lock("cus_1", within=timedelta(milliseconds=50)):
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == usual
