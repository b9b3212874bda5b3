from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import clock
from tests.usage.cast import make_event
from usage.ledger import store
from usage.models import UsageEvent, UsageRollup
from usage.partitions import OutOfReach

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)


def test_an_event_lands_in_the_ledger_and_in_its_hour(organization):
    assert store([make_event(organization_id=organization.pk, at=AT, units=3)]) == 1

    event = UsageEvent.objects.get()
    rollup = UsageRollup.objects.get()
    assert (event.units, event.occurred_at, event.organization_id) == (3, AT, organization.pk)
    assert (rollup.units, rollup.calls, rollup.hour) == (3, 1, AT.replace(minute=0))


def test_an_event_delivered_twice_counts_once(organization):
    event = make_event(organization_id=organization.pk, at=AT)

    assert [store([event]), store([event]), store([event, event])] == [1, 0, 0]
    assert UsageEvent.objects.count() == 1
    assert UsageRollup.objects.get().calls == 1


def test_a_batch_with_old_and_new_events_adds_the_new_ones_only(organization):
    old, new = (make_event(organization_id=organization.pk, at=AT + timedelta(minutes=n)) for n in range(2))
    store([old])

    assert store([old, new]) == 1
    assert UsageRollup.objects.get().units == 2


def test_an_hour_in_which_a_period_ends_has_a_row_on_either_side(organization):
    boundary = AT.replace(minute=45)
    before = make_event(organization_id=organization.pk, at=AT)
    after = make_event(organization_id=organization.pk, at=AT.replace(minute=50), period_start=boundary)
    store([before, after])

    assert [(r.period_start, r.units) for r in UsageRollup.objects.order_by("period_start")] == [
        (AT.replace(day=1, hour=0, minute=0), 1),
        (boundary, 1),
    ]


def test_a_late_event_goes_to_the_hour_it_happened_in(organization):
    store([make_event(organization_id=organization.pk, at=AT + timedelta(hours=5))])
    store([make_event(organization_id=organization.pk, at=AT)])

    assert sorted(UsageRollup.objects.values_list("hour", flat=True)) == [
        AT.replace(minute=0),
        AT.replace(hour=17, minute=0),
    ]


def test_calls_are_counted_by_status(organization):
    store(
        [make_event(organization_id=organization.pk, at=AT, status=status) for status in (200, 301, 404, 422)]
    )

    calls = dict(UsageRollup.objects.values_list("status", "calls"))
    assert calls == {200: 1, 301: 1, 404: 1, 422: 1}


@pytest.mark.parametrize(
    "moment", [datetime(2019, 2, 28, 23, 59, tzinfo=UTC), datetime(2026, 12, 31, 23, tzinfo=UTC)]
)
def test_an_event_outside_every_partition_is_not_lost(organization, moment):
    with clock.standing_at(AT):
        store([make_event(organization_id=organization.pk, at=moment)])

    assert UsageEvent.objects.get().occurred_at == moment


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
    ],
)
def test_no_month_is_made_for_an_absurd_time(organization, moment):
    with clock.standing_at(AT), pytest.raises(OutOfReach, match="lies outside what the ledger takes"):
        store([make_event(organization_id=organization.pk, at=moment)])

    assert not UsageEvent.objects.exists()


def test_the_ledger_is_partitioned_by_utc_month(organization):
    store(
        [
            make_event(
                organization_id=organization.pk, at=datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
            )
        ]
    )
    store([make_event(organization_id=organization.pk, at=datetime(2026, 2, 1, tzinfo=UTC))])

    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM usage_event ORDER BY occurred_at")
        assert [name for (name,) in cursor.fetchall()] == ["usage_event_2026_01", "usage_event_2026_02"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    picks=st.lists(st.lists(st.integers(0, 19), max_size=12), max_size=8),
    minutes=st.lists(st.integers(0, 60 * 24 * 40), min_size=20, max_size=20),
)
def test_any_order_and_repetition_sums_as_each_event_once(organization, picks, minutes):
    UsageRollup.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_event")
    events = [
        make_event(organization_id=organization.pk, at=AT + timedelta(minutes=m), units=n + 1)
        for n, m in enumerate(minutes)
    ]
    for batch in picks:
        store([events[n] for n in batch])

    expected: dict[datetime, int] = {}
    for n in {n for batch in picks for n in batch}:
        hour = events[n].occurred_at.replace(minute=0)
        expected[hour] = expected.get(hour, 0) + n + 1
    sums: dict[datetime, int] = {}
    for rollup in UsageRollup.objects.all():
        sums[rollup.hour] = sums.get(rollup.hour, 0) + rollup.units
    assert sums == expected
