from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from accounts import clock
from tests.usage.cast import make_event
from usage import partitions
from usage.ledger import store

pytestmark = pytest.mark.django_db
MICROSECOND = timedelta(microseconds=1)


def place_of(moment):
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM usage_event WHERE occurred_at = %s", [moment])
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    "midnight",
    [
        datetime(2024, 3, 1, tzinfo=UTC),  # After a leap day.
        datetime(2025, 3, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),  # Europe has summer time by then: a month has no hour less for it.
        datetime(2026, 11, 1, tzinfo=UTC),
    ],
)
def test_a_month_begins_at_midnight_utc_on_the_first(organization, midnight):
    with clock.standing_at(midnight):
        store(
            [make_event(organization_id=organization.pk, at=at) for at in (midnight - MICROSECOND, midnight)]
        )

    last = midnight - MICROSECOND
    assert place_of(last) == f"usage_event_{last:%Y_%m}"
    assert place_of(midnight) == f"usage_event_{midnight:%Y_%m}"


@pytest.mark.parametrize(
    ("now", "names"),
    [
        ("2026-11-30T23:59:59", ["2026_11", "2026_12", "2027_01", "2027_02"]),
        ("2027-12-31T12:00:00", ["2027_12", "2028_01", "2028_02", "2028_03"]),
        ("2028-02-29T00:00:00", ["2028_02", "2028_03", "2028_04", "2028_05"]),
        ("2026-01-31T00:00:00", ["2026_01", "2026_02", "2026_03", "2026_04"]),
    ],
)
def test_this_month_and_the_next_three_are_made_ahead(now, names):
    made = partitions.ensure_partitions_ahead(datetime.fromisoformat(now).replace(tzinfo=UTC))

    assert made == [f"usage_event_{name}" for name in names]
    assert {month.start.strftime("%Y_%m") for month in partitions.existing_months()} >= set(names)


def test_months_made_ahead_leave_no_gap():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    partitions.ensure_partitions_ahead(now, months=14)
    months = [month for month in partitions.existing_months() if month.start >= now]

    assert [month.start for month in months[1:]] == [month.end for month in months[:-1]]


def test_making_a_month_again_changes_nothing():
    now = datetime(2030, 1, 15, tzinfo=UTC)

    assert partitions.ensure_partition(now) == partitions.ensure_partition(now + timedelta(days=3))


def test_the_ready_span_has_partitions_throughout():
    now = datetime(2030, 6, 15, tzinfo=UTC)
    partitions.ensure_partition(datetime(2030, 5, 1, tzinfo=UTC))
    span = partitions.ready_span(now)

    assert (span.start, span.end) == (datetime(2030, 5, 1, tzinfo=UTC), datetime(2030, 7, 1, tzinfo=UTC))
    assert partitions.has_partition(partitions.calendar_month(now))
