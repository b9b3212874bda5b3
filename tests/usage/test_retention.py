from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from djstripe import models as djstripe

from accounts import clock
from billing.models import Entitlement
from billing.periods import calendar_month
from config.environment import Environment
from tests.usage import ingesting
from tests.usage.cast import make_event
from usage import stream
from usage.ledger import STORING, store
from usage.models import DroppedMonth, MeterReport, UsageEvent, UsageRollup
from usage.partitions import OutOfReach, existing_months
from usage.reports import make_reports
from usage.retention import drop_old_partitions, months_past_retention, why_kept

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 15, 5, 20, tzinfo=UTC)
OLD = datetime(2026, 7, 31, 23, 59, 59, 999999, tzinfo=UTC)
JULY, AUGUST = calendar_month(OLD), calendar_month(datetime(2026, 8, 1, tzinfo=UTC))


@pytest.fixture(autouse=True)
def three_months(settings):
    """Keep three whole months; it is November."""
    settings.LEDGER_MONTHS = 3
    with clock.standing_at(NOW):
        yield


@pytest.fixture
def july(organization):
    """One event in July and one in August, both reported and settled; Acme's period is November's."""
    start = calendar_month(NOW)
    Entitlement.objects.filter(organization=organization).update(
        period_start=start.start, period_end=start.end
    )
    event = make_event(organization_id=organization.pk, at=OLD, units=3)
    store([event, make_event(organization_id=organization.pk, at=AUGUST.start)])
    make_reports()
    MeterReport.objects.update(state=MeterReport.State.SENT)
    return event


def months_to_drop(now):
    return [month for month in months_past_retention(now) if why_kept(month, now=now) is None]


def known_to_stripe(organization):
    """Make the organization one whose reports are sent."""
    return djstripe.Customer.objects.create(id="cus_acme", subscriber=organization, livemode=False)


def test_months_past_retention_are_dropped_and_their_rollups_stay(july):
    assert drop_old_partitions(NOW) == ["usage_event_2026_07"]

    assert [event.occurred_at for event in UsageEvent.objects.all()] == [AUGUST.start]
    assert JULY not in existing_months()
    assert UsageRollup.objects.get(hour=OLD.replace(minute=0, second=0, microsecond=0)).units == 3
    dropped = DroppedMonth.objects.get()
    assert (dropped.month, dropped.events, dropped.units) == (JULY.start, 1, Decimal(3))


def test_what_a_deleted_meter_counted_keeps_no_month(july, organization):
    """It is never reported, and its rollups stay."""
    store([make_event(organization_id=organization.pk, at=OLD, units=5, meter="gone")])

    assert drop_old_partitions(NOW) == ["usage_event_2026_07"]
    assert UsageRollup.objects.unreported().get().units == 5


def test_without_a_setting_the_ledger_is_kept_for_ever(july, settings):
    settings.LEDGER_MONTHS = 0

    assert drop_old_partitions(NOW) == []
    assert UsageEvent.objects.count() == 2


def test_exactly_the_months_asked_for_are_kept(july, settings):
    settings.LEDGER_MONTHS = 4

    assert months_to_drop(NOW) == []
    assert months_to_drop(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)) == []
    assert months_to_drop(datetime(2026, 12, 1, tzinfo=UTC)) == [JULY]


def test_a_month_with_unreported_usage_is_kept(july, organization):
    store([make_event(organization_id=organization.pk, at=OLD)])

    assert drop_old_partitions(NOW) == []
    assert why_kept(JULY, now=NOW) == "Some of its usage is not reported to Stripe yet."


@pytest.mark.parametrize("state", ["pending", "sending", "unknown"])
def test_a_month_with_a_report_that_is_not_settled_is_kept(july, organization, state):
    known_to_stripe(organization)
    MeterReport.objects.filter(hour__lt=JULY.end).update(state=state, first_sent_at=NOW)

    assert drop_old_partitions(NOW) == []
    assert why_kept(JULY, now=NOW) == "Reports to Stripe of its usage are not settled yet."


def test_a_month_whose_period_goes_on_into_one_that_is_not_settled_is_kept(july, organization):
    known_to_stripe(organization)
    # The period of July's last days ended in August, and a report of its end got no answer.
    MeterReport.objects.filter(hour__gte=JULY.end).update(state="unknown", period_start=JULY.start)

    assert drop_old_partitions(NOW) == []


def test_reports_of_somebody_unknown_to_stripe_keep_nothing(july):
    MeterReport.objects.update(state="pending")

    assert drop_old_partitions(NOW) == ["usage_event_2026_07"]


def test_a_month_in_which_an_open_period_began_is_kept(july, organization):
    Entitlement.objects.filter(organization=organization).update(period_start=OLD)

    assert why_kept(JULY, now=NOW) == "A period that is still open began on 2026-07-31."


def test_a_month_that_an_open_period_carries_on_is_kept(july, organization):
    Entitlement.objects.filter(organization=organization).update(carried_from=[OLD.isoformat()])

    assert drop_old_partitions(NOW) == []


def test_a_month_whose_rollups_differ_from_it_is_kept(july):
    UsageRollup.objects.update(calls=100)

    assert drop_old_partitions(NOW) == []
    assert why_kept(JULY, now=NOW).startswith("Its rollups differ from it: ")


def test_a_month_is_kept_while_events_from_its_time_wait_in_the_stream(july, redis):
    redis.xadd(stream.STREAM, {"e": "late"}, id=f"{int(OLD.timestamp() * 1000)}-0")

    assert drop_old_partitions(NOW) == []
    assert why_kept(JULY, now=NOW) == "Events that arrived on 2026-07-31 are still to be stored."


def test_an_event_of_a_dropped_month_is_set_aside_and_never_counted_again(
    july, organization, drain, redis, caplog
):
    drop_old_partitions(NOW)
    fresh = make_event(organization_id=organization.pk, at=NOW)
    for event in (july, fresh):
        stream.deliver(event)
    units = UsageRollup.objects.units()

    assert drain.run_once() == 2
    assert UsageRollup.objects.units() == units + 1
    assert [fields["e"] for _, fields in redis.xrange(stream.REFUSED)] == [july.encode()]
    assert "The ledger's month 2026-07 was dropped: nothing is added to it any more." in caplog.text


def test_a_dropped_month_stays_dropped_when_the_setting_is_taken_back(july, settings):
    drop_old_partitions(NOW)
    settings.LEDGER_MONTHS = 0

    with pytest.raises(OutOfReach, match="was dropped"):
        store([july])


def test_a_late_event_of_an_old_month_that_was_never_there_is_not_lost(july, organization):
    drop_old_partitions(NOW)
    older = make_event(organization_id=organization.pk, at=datetime(2026, 6, 30, tzinfo=UTC))

    assert store([older]) == 1


def test_a_ledger_in_use_is_left_for_the_next_time(july, monkeypatch):
    monkeypatch.setattr("usage.retention.LOCK_TIMEOUT", "1ms")
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock_shared(%s)", [STORING])  # As a drain does.
        assert drop_old_partitions(NOW) == []
    other.close()
    assert UsageEvent.objects.count() == 2


def test_the_command_says_what_it_dropped_and_what_it_kept_and_why(july, organization):
    store([make_event(organization_id=organization.pk, at=datetime(2026, 6, 30, tzinfo=UTC))])
    out = StringIO()
    call_command("drop_old_partitions", stdout=out)

    assert "Dropped: usage_event_2026_07." in out.getvalue()
    assert "Kept: 2026-06. Some of its usage is not reported to Stripe yet." in out.getvalue()


@pytest.mark.parametrize("value", ["1", "2", "-3", "six"])
def test_fewer_than_three_months_are_refused(value):
    with pytest.raises(ImproperlyConfigured, match="LEDGER_MONTHS must be a whole number, 3 or more"):
        Environment({"LEDGER_MONTHS": value}).integer("LEDGER_MONTHS", default=0, at_least=3)


def test_an_event_sent_in_of_a_month_that_was_dropped_is_too_old_and_keeps_no_other_from_being_taken(
    july, organization
):
    drop_old_partitions(NOW)
    with clock.standing_at(NOW.replace(day=5)):
        sent = [ingesting.event(organization, "1", time=OLD), ingesting.event(organization, "2")]
        outcomes = ingesting.send(*sent)

    assert ingesting.statuses(outcomes) == ["too_old", "accepted"]
    assert JULY not in existing_months()
