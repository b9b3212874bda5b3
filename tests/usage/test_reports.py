from datetime import UTC, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.models import Meter
from billing.stripe.catalog import publish_meter
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from tests.usage.cast import make_event
from tests.usage.outbox import companies, counted, use
from usage import claims, reports
from usage.ledger import store
from usage.models import MeterReport, UsageRollup
from usage.tasks import report_usage

pytestmark = pytest.mark.django_db
State = MeterReport.State


@pytest.fixture
def customer(sandbox, organization):
    """Acme as Stripe knows it, with the meter published."""
    publish_meter(Meter.objects.get(slug="requests"))
    return ensure_customer(organization)


def test_stripe_counts_what_the_rollups_hold(organization, customer):
    use(organization, units=5)
    use(organization, units=7)

    report_usage()

    assert counted(organization) == 12
    assert MeterReport.objects.get().state == State.SENT


def test_reporting_again_reports_nothing_again(organization, customer):
    use(organization, units=5)

    assert [report_usage() for _ in range(3)] == [1, 0, 0]
    assert counted(organization) == 5


def test_every_report_carries_an_identifier_of_its_own_and_the_hour_of_its_use(
    organization, customer, monkeypatch
):
    told = []
    monkeypatch.setattr(reports, "send_meter_event", lambda **event: told.append(event))
    now = timezone.now()
    for hours in (3, 2, 1):
        use(organization, units=hours, at=now - timedelta(hours=hours))
    report_usage()

    assert len({event["identifier"] for event in told}) == 3
    assert {event["timestamp"]: event["value"] for event in told} == {
        (now - timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0): hours
        for hours in (3, 2, 1)
    }


def test_later_use_in_the_same_hour_is_reported_by_itself(organization, customer):
    at = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    use(organization, units=5, at=at)
    report_usage()
    use(organization, units=3, at=at + timedelta(minutes=30))
    report_usage()

    assert sorted(MeterReport.objects.values_list("units", flat=True)) == [3, 5]
    assert counted(organization) == 8


def test_while_nothing_can_be_sent_an_hour_s_units_gather_in_one_report(organization, customer):
    at = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    for units in (1, 2, 4):
        use(organization, units=units, at=at)
        reports.make_reports()
    assert MeterReport.objects.get().units == 7

    assert reports.send_due_reports() == 1
    assert counted(organization) == 7


def test_an_hour_s_units_that_stripe_does_not_take_at_once_are_told_in_parts(organization, customer):
    use(organization, units=10 * 10**15 + 1)
    assert reports.make_reports() == 11
    use(organization, units=3 * 10**15)  # More than the last of them has room for.
    reports.make_reports()

    assert MeterReport.objects.count() == 14
    while reports.send_due_reports():
        pass

    assert set(MeterReport.objects.values_list("state", flat=True)) == {State.SENT}
    assert counted(organization) == 13 * 10**15 + 1


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN, State.PENDING])
def test_a_report_that_stripe_may_have_takes_up_no_more_units(organization, customer, state):
    at = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    use(organization, units=5, at=at)
    reports.make_reports()
    reports.claim(MeterReport.objects.get().pk)
    # Pending, as after it was found to be lost: Stripe may know the identifier in spite of that.
    MeterReport.objects.update(state=state)
    use(organization, units=3, at=at)
    reports.make_reports()

    assert sorted(MeterReport.objects.values_list("units", flat=True)) == [3, 5]


def test_a_lost_answer_does_not_bill_twice(organization, customer, monkeypatch):
    use(organization, units=5)
    real = reports.send_meter_event

    def send_and_lose_the_answer(**event):
        real(**event)
        raise StripeUnavailable("lost")

    with monkeypatch.context() as patch:
        patch.setattr(reports, "send_meter_event", send_and_lose_the_answer)
        report_usage()
    assert MeterReport.objects.get().state == State.UNKNOWN

    report_usage()

    report = MeterReport.objects.get()
    assert (report.state, report.tries) == (State.SENT, 2)
    assert counted(organization) == 5


def test_a_sender_that_died_is_taken_over_once_its_lease_is_up(organization, customer):
    use(organization, units=5)
    reports.make_reports()
    assert reports.claim(MeterReport.objects.get().pk) is not None
    assert reports.send_due_reports() == 0

    MeterReport.objects.update(claimed_at=timezone.now() - MeterReport.LEASE - timedelta(seconds=1))

    assert reports.send_due_reports() == 1
    assert counted(organization) == 5


def test_a_report_without_an_answer_for_a_day_is_not_sent_blindly(organization, customer):
    use(organization, units=5)
    reports.make_reports()
    MeterReport.objects.update(state=State.UNKNOWN, first_sent_at=timezone.now() - MeterReport.RESEND_LIMIT)

    assert reports.send_due_reports() == 0
    assert MeterReport.objects.get().state == State.UNKNOWN


def test_only_one_report_of_a_customer_and_meter_is_in_flight(organization, customer):
    now = timezone.now()
    for hours in (1, 2):
        use(organization, units=1, at=now - timedelta(hours=hours))
    reports.make_reports()
    first, second = MeterReport.objects.order_by("hour")

    assert reports.claim(first.pk) is not None
    assert reports.claim(second.pk) is None
    with pytest.raises(IntegrityError), transaction.atomic():
        MeterReport.objects.update(state=State.SENDING)


def test_a_rejected_report_keeps_stripe_s_reason_and_is_left_alone(organization, customer, monkeypatch):
    def reject(**event):
        raise StripeRejected("The meter is inactive.", code="meter_inactive")

    use(organization, units=5)
    with monkeypatch.context() as patch:
        patch.setattr(reports, "send_meter_event", reject)
        report_usage()
    report_usage()

    report = MeterReport.objects.get()
    assert (report.state, report.last_error, report.tries) == (State.REJECTED, "The meter is inactive.", 1)


def test_usage_before_stripe_knows_the_customer_waits_and_is_then_reported(organization, sandbox):
    use(organization, units=4)
    assert report_usage() == 0
    assert MeterReport.objects.get().state == State.PENDING

    publish_meter(Meter.objects.get(slug="requests"))
    ensure_customer(organization)

    assert report_usage() == 1
    assert counted(organization) == 4


def test_usage_of_a_meter_that_is_not_published_waits_and_is_reported_once_it_is(organization, customer):
    """Stripe takes what it knows no meter for, and never counts it."""
    tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    use(organization, units=5, meter="tokens")
    use(organization, units=3)

    assert report_usage() == 1
    assert MeterReport.objects.get(meter=tokens).state == State.PENDING

    publish_meter(tokens)
    assert report_usage() == 1
    assert counted(organization, meter="tokens") == 5


def test_an_hour_split_by_a_period_s_end_is_reported_inside_each_period(organization, customer):
    hour = timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    boundary = hour + timedelta(minutes=20)
    use(organization, units=1, at=hour + timedelta(minutes=10), period_start=hour - timedelta(days=20))
    use(organization, units=2, at=hour + timedelta(minutes=30), period_start=boundary)
    report_usage()

    assert {r.timestamp: r.units for r in MeterReport.objects.all()} == {hour: 1, boundary: 2}


def test_reports_and_rollups_always_agree(organization, customer):
    for units in (1, 2, 3):
        use(organization, units=units)
        reports.make_reports()

    rollup = UsageRollup.objects.get()
    assert (
        rollup.reported_units == rollup.units == sum(MeterReport.objects.values_list("units", flat=True)) == 6
    )


def test_stripe_being_down_ends_the_run_and_loses_nothing(organization, customer, monkeypatch):
    calls = []

    def fail(**event):
        calls.append(event)
        raise StripeUnavailable("down")

    others = companies(5)
    for each in (organization, *others):
        use(each, units=1)
    with monkeypatch.context() as patch:
        patch.setattr(reports, "send_meter_event", fail)
        report_usage()

    assert len(calls) == reports.GIVE_UP_AFTER
    assert report_usage() == 6
    assert counted(organization) == 1


def test_organizations_that_stripe_never_answers_do_not_stand_before_the_others(
    organization, customer, monkeypatch
):
    now = timezone.now()
    poisoned = companies(3)
    real = reports.send_meter_event
    names = {ensure_customer(each).id for each in poisoned}

    def fail_some(**event):
        if event["customer_id"] in names:
            raise StripeUnavailable("500, and again 500")
        real(**event)

    for each in (*poisoned, organization):
        for hours in range(5, 0, -1):
            use(each, units=1, at=now - timedelta(hours=hours))
    monkeypatch.setattr(reports, "send_meter_event", fail_some)
    report_usage()
    report_usage()

    assert counted(organization) == 5
    assert MeterReport.objects.filter(state=State.UNKNOWN).count() == 3


def test_a_retry_tells_the_same_identifier_and_the_same_moment(organization, customer, monkeypatch):
    told = []

    def listen(**event):
        told.append((event["identifier"], event["timestamp"]))
        raise StripeUnavailable("no answer")

    use(organization, units=5)
    monkeypatch.setattr(reports, "send_meter_event", listen)
    report_usage()
    # What it would be dated at now, as after a change of plan, is another moment.
    monkeypatch.setattr(claims, "moment_of", lambda report, **given: given["now"])
    report_usage()

    assert len(told) == 2
    assert told[0] == told[1]
    assert MeterReport.objects.get().dated_at == told[0][1]


def test_a_report_is_dated_anew_where_the_plan_was_changed_before_stripe_heard_of_it(
    organization, customer, monkeypatch
):
    use(organization, units=5)
    reports.make_reports()
    claimed = reports.claim(MeterReport.objects.get().pk)
    changed_at = timezone.now().replace(microsecond=0)
    with monkeypatch.context() as patch:
        patch.setattr(claims, "moment_of", lambda report, **given: changed_at)
        reports.send(claimed[0], customer_id=claimed[1])

        report = MeterReport.objects.get()
        assert (report.state, report.dated_at, report.tries) == (State.PENDING, None, 0)
        report_usage()

    report.refresh_from_db()
    assert (report.state, report.dated_at) == (State.SENT, changed_at)
    assert counted(organization) == 5


def test_usage_older_than_35_days_is_never_dated_later_and_stripe_is_not_asked(
    organization, customer, monkeypatch
):
    now = timezone.now()
    old, young = now - timedelta(days=36), now - timedelta(days=34)
    told = []
    real = reports.send_meter_event

    def listen(**event):
        told.append(event["timestamp"])
        real(**event)

    monkeypatch.setattr(reports, "send_meter_event", listen)
    for at in (old, young):
        use(organization, units=5, at=at)
    report_usage()

    assert told == [young.replace(minute=0, second=0, microsecond=0)]
    (report,) = MeterReport.objects.too_old()
    assert report.dated_at == report.hour == old.replace(minute=0, second=0, microsecond=0)
    assert "35 days" in report.last_error


def test_a_refusal_of_a_retry_does_not_tell_that_the_try_before_was_lost(organization, customer, monkeypatch):
    real = reports.send_meter_event
    answers = [StripeUnavailable("the answer is lost"), StripeRejected("not like this")]

    def answer(**event):
        if len(answers) == 2:
            real(**event)
        raise answers.pop(0)

    use(organization, units=5)
    monkeypatch.setattr(reports, "send_meter_event", answer)
    report_usage()
    report_usage()
    report_usage()

    report = MeterReport.objects.get()
    assert (report.state, report.to_settle, report.tries) == (State.UNKNOWN, True, 2)
    assert counted(organization) == 5


def test_an_organization_unknown_to_stripe_takes_up_no_place_in_a_run(organization, outsider, customer):
    rival = Organization.objects.get(name="Rival")
    for hours in range(1, 6):
        use(rival, units=1, at=timezone.now() - timedelta(hours=hours))
    use(organization, units=7)
    reports.make_reports()

    assert reports.send_due_reports(limit=1) == 1
    assert counted(organization) == 7


def test_a_failure_of_stripe_s_own_is_not_repeated_by_an_idempotency_key(organization, customer, sandbox):
    use(organization, units=5)
    report_usage()
    report = MeterReport.objects.get()
    MeterReport.objects.update(state=State.UNKNOWN)

    # The identifier alone tells Stripe that it has the event; nothing is kept there under a key of ours.
    assert reports.send_due_reports() == 1
    assert sandbox.find("_idempotency", report.identifier) is None
    assert counted(organization) == 5


def test_usage_waits_for_a_key_that_stripe_accepts(organization, customer, settings):
    use(organization, units=5)
    good = settings.STRIPE_SECRET_KEY
    settings.STRIPE_SECRET_KEY = "sk_live_notForThisSandbox0123456789"
    get_client.cache_clear()
    report_usage()
    assert MeterReport.objects.get().state == State.UNKNOWN

    settings.STRIPE_SECRET_KEY = good
    get_client.cache_clear()
    report_usage()

    assert counted(organization) == 5


def test_what_a_deleted_meter_counted_keeps_no_other_usage_from_being_reported(organization):
    """A call was on its way to the ledger when staff deleted a meter that nothing referred to yet."""
    at = organization.created_at
    store([make_event(organization_id=organization.pk, at=at, meter="gone")])
    store([make_event(organization_id=organization.pk, at=at)])

    assert reports.make_reports() == reports.make_reports(organization) + 1 == 1
    connection.check_constraints()
    assert MeterReport.objects.get().meter_id == "requests"
    assert UsageRollup.objects.unreported().get().meter == "gone"
