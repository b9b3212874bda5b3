"""Days that are summed up never say anything else than the rollups."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction

from accounts.models import Organization
from tests.billing.waiting import somebody_waits_for_a_lock, wait_until
from tests.usage.cast import make_event
from usage import ledger
from usage.analytics import Dimension, series
from usage.cells import Scope
from usage.days import Day, sum_day, sum_days
from usage.ledger import store
from usage.local_time import Interval, round_down
from usage.models import DayLatency, DaySum, DayTotal, SummedDay, UsageRollup

DAY = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


def an_organization(time_zone: str = "UTC") -> Organization:
    return Organization.objects.create(name="Acme", email="a@acme.example", time_zone=time_zone)


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


def units(organization: Organization, days: int = 3, time_zone: str = "") -> list[int]:
    zone = time_zone or organization.time_zone
    start = round_down(DAY, Interval.DAY, ZoneInfo(zone))
    scope = Scope(organization, "requests", start, start + days * timedelta(days=1), zone)
    return [point.measures.units for point in series(scope, Interval.DAY).points]


def summed_units(organization: Organization) -> int:
    rows = DaySum.objects.filter(summed_day__organization=organization, summed_day__late_at=None)
    return sum(rows.values_list("units", flat=True))


@pytest.mark.django_db
def test_hours_are_summed_up_two_hours_after_they_began_and_more_of_a_day_as_it_goes_on():
    organization = an_organization()
    for hour in range(12):
        use(organization, DAY + hour * HOUR)

    assert sum_days(now=DAY + 6.5 * HOUR) == 1
    assert summed_units(organization) == 5
    assert sum_days(now=DAY + 6.9 * HOUR) == 0
    assert sum_days(now=DAY + 7 * HOUR) == 1
    assert summed_units(organization) == 6
    assert SummedDay.objects.count() == 1
    assert units(organization) == [12, 0, 0]


@pytest.mark.django_db
def test_readers_take_what_is_summed_up_from_there():
    organization = an_organization()
    use(organization, DAY, 5)
    sum_days(now=DAY + 4 * HOUR)
    # To tell the one from the other.
    DaySum.objects.update(units=7)
    DayTotal.objects.filter(hour=None).update(units=8)
    DayTotal.objects.exclude(hour=None).update(units=9)

    use(organization, DAY + 3 * HOUR, 10)

    scope = Scope(organization, "requests", DAY, DAY + 24 * HOUR, "UTC")
    assert series(scope, Interval.DAY, by=Dimension.ENDPOINT).totals.units == 7 + 10
    assert series(scope, Interval.DAY).totals.units == 8 + 10
    assert series(scope, Interval.HOUR).totals.units == 9 + 10


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["a new row", "a row that is there", "a row taken away"])
def test_a_rollup_changed_late_puts_its_day_out_of_date_at_once(how):
    organization = an_organization()
    use(organization, DAY, 5)
    use(organization, DAY + 24 * HOUR, 1)
    sum_days(now=DAY + 48 * HOUR, since=DAY)
    assert SummedDay.objects.count() == 2

    if how == "a new row":
        use(organization, DAY + HOUR, 2, endpoint="/late")
    elif how == "a row that is there":
        use(organization, DAY, 2)
    else:
        UsageRollup.objects.filter(hour=DAY).delete()

    left = 0 if how == "a row taken away" else 7
    assert units(organization) == [left, 1, 0]
    assert [day.late_at is None for day in SummedDay.objects.order_by("starts_at")] == [False, True]
    assert sum_days(now=DAY + 48 * HOUR) == (1 if left else 0)
    assert summed_units(organization) == left + 1
    assert not SummedDay.objects.exclude(late_at=None).exists()


@pytest.mark.django_db
def test_what_is_reported_to_stripe_leaves_the_sums_as_they_are():
    organization = an_organization()
    use(organization, DAY, 5)
    sum_days(now=DAY + 48 * HOUR, since=DAY)

    UsageRollup.objects.update(reported_units=5)

    assert SummedDay.objects.get().late_at is None


@pytest.mark.django_db
def test_another_time_zone_cuts_the_days_anew():
    organization = an_organization("America/New_York")
    for hour in range(72):
        use(organization, DAY + hour * HOUR)
    sum_days(now=DAY + 96 * HOUR, since=DAY - 24 * HOUR)
    assert units(organization, 4) == [5, 24, 24, 19]

    organization.time_zone = "Asia/Kolkata"
    organization.save()

    assert units(organization, 4) == [19, 24, 24, 5]  # From the rollups: those days are no days of this zone.
    assert sum_days(now=DAY + 96 * HOUR) > 0
    assert {day.time_zone for day in SummedDay.objects.all()} == {"Asia/Kolkata"}
    assert summed_units(organization) == 72
    assert units(organization, 4) == [19, 24, 24, 5]
    assert units(organization, 4, time_zone="UTC") == [24, 24, 24, 0]


@pytest.mark.django_db
def test_a_time_zone_that_this_machine_does_not_know_keeps_nobody_else_from_being_summed_up():
    lost, other = an_organization(), an_organization()
    for organization in (lost, other):
        use(organization, DAY)
    sum_days(now=DAY + 48 * HOUR, since=DAY)
    Organization.objects.filter(pk=lost.pk).update(time_zone="Mars/Base")
    for organization in (lost, other):
        use(organization, DAY + 24 * HOUR, 2)

    assert sum_days(now=DAY + 72 * HOUR, since=DAY) == 1
    assert [day.organization for day in SummedDay.objects.filter(starts_at__gt=DAY)] == [other]


@pytest.mark.django_db
def test_nothing_that_is_over_only_by_a_clock_running_ahead_is_summed_up():
    organization = an_organization()
    present = round_down(datetime.now(UTC), Interval.HOUR, ZoneInfo("UTC"))
    use(organization, present)

    sum_days(now=present + timedelta(days=9), since=present - timedelta(days=1))

    assert not SummedDay.objects.exists()


@pytest.mark.django_db
def test_days_of_meters_and_organizations_are_kept_apart():
    acme, rival = an_organization(), an_organization()
    use(acme, DAY, 1)
    use(acme, DAY, 2, meter="tokens")
    use(rival, DAY, 4)
    sum_days(now=DAY + 48 * HOUR, since=DAY)

    use(rival, DAY, 8)

    assert units(acme) == [1, 0, 0]
    assert units(rival) == [12, 0, 0]
    assert SummedDay.objects.filter(late_at=None).count() == 2
    assert DayLatency.objects.filter(summed_day__organization=acme).count() == 2


@pytest.mark.django_db(transaction=True)
def test_an_event_that_is_being_stored_while_its_day_is_summed_up_is_not_missed():
    organization = an_organization()
    use(organization, DAY)
    day = Day(organization.pk, "requests", DAY, ZoneInfo("UTC"))
    stored, may_commit, done = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        try:
            with transaction.atomic():
                use(organization, DAY + HOUR, 2)
                stored.set()
                may_commit.wait(60)
        finally:
            connection.close()

    def add_up() -> None:
        try:
            sum_day(day, settled=DAY + 24 * HOUR)
            done.set()
        finally:
            connection.close()

    writer, summer = threading.Thread(target=write), threading.Thread(target=add_up)
    writer.start()
    assert stored.wait(60)
    summer.start()
    wait_until(lambda: done.is_set() or somebody_waits_for_a_lock())
    assert not done.is_set()  # It waits for whoever writes.
    may_commit.set()
    writer.join()
    summer.join()

    assert summed_units(organization) == 3
    assert units(organization) == [3, 0, 0]


@pytest.mark.django_db(transaction=True)
def test_an_event_that_comes_while_its_day_is_summed_up_marks_it():
    organization = an_organization()
    use(organization, DAY)
    day = Day(organization.pk, "requests", DAY, ZoneInfo("UTC"))
    late = threading.Thread(target=lambda: (use(organization, DAY, 2), connection.close()))

    with transaction.atomic():
        sum_day(day, settled=DAY + 24 * HOUR)
        late.start()
        wait_until(lambda: not late.is_alive() or somebody_waits_for_a_lock())
        assert late.is_alive()
    late.join()

    assert units(organization) == [3, 0, 0]
    assert SummedDay.objects.get().late_at


@pytest.mark.django_db
def test_the_ledger_s_own_statement_is_seen_by_the_trigger():
    """However the drain stores: what it writes of a day gone by puts that day out of date."""
    organization = an_organization()
    use(organization, DAY, 5)
    sum_days(now=DAY + 48 * HOUR, since=DAY)
    event = make_event(organization_id=organization.pk, at=DAY, units=3, api_key_id=UUID(int=9))

    with transaction.atomic(), connection.cursor() as cursor:
        ledger.stage(cursor, [ledger.row_of(event)])
        ledger.store_staged(cursor)

    assert units(organization) == [8, 0, 0]
