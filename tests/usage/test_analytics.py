"""What was used by time and by what: the same as adding up the events, in any time zone."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization
from tests.usage.cast import make_event
from usage.analytics import Dimension, Measures, breakdown, latency, latency_by_endpoint, series
from usage.cells import Scope, Statuses
from usage.counting import NO_KEY
from usage.days import sum_days
from usage.ledger import store
from usage.local_time import Interval, following, hour_start, local_day, round_down, round_up
from usage.models import UsageRollup

pytestmark = pytest.mark.django_db

# Clocks that change at two, at midnight and by half an hour; offsets of 30 and 45 minutes; a day that never was.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "Pacific/Apia",
]
KEYS = [UUID(int=number) for number in (1, 2, 0)]
ENDPOINTS = ["/api/v1/echo", "/api/v1/forecasts", "/api/v1/maps"]
# 2018 and 2024 have a change of clocks of each zone that has one; 2024 has a leap day.
BEGINNINGS = [
    datetime(2018, 10, 30, tzinfo=UTC),
    datetime(2024, 2, 26, tzinfo=UTC),
    datetime(2024, 3, 28, tzinfo=UTC),
]
SPAN = timedelta(days=9)

events = st.lists(
    st.tuples(
        st.integers(0, int(SPAN.total_seconds()) - 1),
        st.integers(0, 1000),
        st.sampled_from(KEYS),
        st.sampled_from(ENDPOINTS),
        st.sampled_from([0, 200, 204, 404, 429]),
    ),
    max_size=25,
)


def an_organization(time_zone: str = "UTC") -> Organization:
    return Organization.objects.create(name="Acme", email="a@acme.example", time_zone=time_zone)


def scope_of(organization: Organization, start: datetime, end: datetime, **narrowed: Any) -> Scope:
    return Scope(organization, "requests", start, end, organization.time_zone, **narrowed)


def use(organization: Organization, at: datetime, units: int = 1, **kind: Any) -> None:
    store([make_event(organization_id=organization.pk, at=at, units=units, **kind)])


def name_of(event: Any, by: Dimension) -> str:
    return {
        Dimension.KEY: str(event.api_key_id),
        Dimension.ENDPOINT: event.endpoint,
        Dimension.STATUS: str(event.status),
    }[by]


def measures_of(events: list[Any]) -> Measures:
    calls = [event for event in events if event.status or event.api_key_id != NO_KEY]
    return Measures(
        units=sum(event.units for event in events),
        calls=len(calls),
        sent_in=len(events) - len(calls),
        errors=sum(event.status >= 400 for event in events),
        response_ms=sum(event.response_ms for event in calls if event.status),
        unknown=sum(not event.status for event in calls),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zone=st.sampled_from(ZONES),
    beginning=st.sampled_from(BEGINNINGS),
    drawn=events,
    interval=st.sampled_from(list(Interval)),
    by=st.sampled_from(list(Dimension)),
    summed_up=st.none() | st.integers(0, 10 * 24),
    late=st.integers(0, 25),
)
def test_a_series_is_what_the_events_add_up_to(*, zone, beginning, drawn, interval, by, summed_up, late):
    organization = an_organization(zone)
    made = [
        make_event(
            organization_id=organization.pk,
            at=beginning + timedelta(seconds=second),
            units=units,
            api_key_id=key,
            endpoint=endpoint,
            status=status,
        )
        for second, units, key, endpoint, status in drawn
    ]
    store(made[late:])
    if summed_up is not None:
        # At any moment in between, and again: what comes later is late for it.
        sum_days(now=beginning + timedelta(hours=summed_up), since=beginning)
    store(made[:late])

    local = ZoneInfo(zone)
    start, end = round_down(beginning, interval, local), round_up(beginning + SPAN, interval, local)
    found = series(scope_of(organization, start, end), interval, by=by)

    def place(moment: datetime) -> Any:
        hour = hour_start(moment)
        if interval == Interval.HOUR:
            return hour
        day = hour.astimezone(local).date()
        return day if interval == Interval.DAY else day.replace(day=1)

    def place_of_point(moment: datetime) -> Any:
        day = local_day(moment, local)
        return (
            moment if interval == Interval.HOUR else day if interval == Interval.DAY else day.replace(day=1)
        )

    expected: dict[Any, list[Any]] = {}
    for event in made:
        expected.setdefault(place(event.occurred_at), []).append(event)
    points = {place_of_point(point.start): point.measures for point in found.points}
    assert len(points) == len(found.points)
    assert {p: m for p, m in points.items() if m != Measures()} == {
        p: measures_of(its) for p, its in expected.items()
    }
    assert found.totals == measures_of(made)
    by_name = Counter[str]()
    for event in made:
        by_name[name_of(event, by)] += event.units
    assert {group.value: group.measures.units for group in found.groups} == by_name
    assert [group.measures.units for group in found.groups] == sorted(by_name.values(), reverse=True)
    assert all(group.points[n].start == p.start for group in found.groups for n, p in enumerate(found.points))
    for dimension, groups in breakdown(scope_of(organization, start, end)).items():
        named = {name_of(event, dimension): [] for event in made}
        for event in made:
            named[name_of(event, dimension)].append(event)
        assert {group.value: group.measures for group in groups} == {
            name: measures_of(its) for name, its in named.items()
        }


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # Midnight itself is skipped.
        ("Asia/Kolkata", date(2026, 3, 29), 24),
        ("UTC", date(2024, 2, 29), 24),
    ],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(zone, day, hours):
    organization, local = an_organization(zone), ZoneInfo(zone)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=local).astimezone(UTC)
    start = round_down(noon, Interval.DAY, local)
    end = following(start, Interval.DAY, local)
    begin = hour_start(start)
    store(
        [make_event(organization_id=organization.pk, at=begin + timedelta(hours=n)) for n in range(-30, 60)]
    )

    (point,) = series(scope_of(organization, start, end), Interval.DAY).points

    assert point.measures.units == hours
    assert end - start == timedelta(hours=hours)


def test_an_hour_cut_by_a_local_midnight_counts_in_the_day_in_which_it_begins():
    organization = an_organization("Asia/Kolkata")
    use(
        organization, datetime(2026, 3, 1, 18, 45, tzinfo=UTC)
    )  # 0:15 on the 2nd, in an hour that began at 23:30.
    use(organization, datetime(2026, 3, 1, 19, 0, tzinfo=UTC))
    local = ZoneInfo("Asia/Kolkata")

    found = series(
        scope_of(
            organization,
            datetime(2026, 3, 1, tzinfo=local).astimezone(UTC),
            datetime(2026, 3, 3, tzinfo=local).astimezone(UTC),
        ),
        Interval.DAY,
    )

    assert [point.measures.units for point in found.points] == [1, 1]


def test_months_begin_on_their_first_day_however_long_the_last_one_was():
    organization, local = an_organization("Europe/Berlin"), ZoneInfo("Europe/Berlin")
    days = [date(2023, 12, 31), date(2024, 1, 31), date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 30)]
    for day in days:
        use(organization, datetime(day.year, day.month, day.day, 23, tzinfo=local).astimezone(UTC))
    start = datetime(2023, 12, 1, tzinfo=local).astimezone(UTC)

    found = series(
        scope_of(organization, start, datetime(2024, 5, 1, tzinfo=local).astimezone(UTC)), Interval.MONTH
    )

    assert [point.start.astimezone(local).date() for point in found.points] == [
        date(2023, 12, 1),
        date(2024, 1, 1),
        date(2024, 2, 1),
        date(2024, 3, 1),
        date(2024, 4, 1),
    ]
    assert [point.measures.units for point in found.points] == [1] * 5


DAY = datetime(2026, 3, 2, tzinfo=UTC)


def test_what_is_beyond_the_most_used_is_put_together():
    organization = an_organization()
    for number in range(12):
        use(organization, DAY, units=number + 1, endpoint=f"/api/v1/{number}")
    scope = scope_of(organization, DAY, DAY + timedelta(days=1))

    found = series(scope, Interval.DAY, by=Dimension.ENDPOINT, most=3)

    assert [(group.value, group.measures.units) for group in found.groups] == [
        ("/api/v1/11", 12),
        ("/api/v1/10", 11),
        ("/api/v1/9", 10),
        (None, sum(range(10))),
    ]
    assert found.totals.units == sum(range(13))
    named = breakdown(scope, most=3)[Dimension.ENDPOINT]
    assert [(each.value, each.measures) for each in named] == [(g.value, g.measures) for g in found.groups]


def test_usage_can_be_narrowed_to_a_key_an_endpoint_a_status_and_a_period():
    organization, rival = an_organization(), an_organization()
    before = DAY - timedelta(days=1)
    use(organization, DAY, 1, api_key_id=KEYS[0], period_start=before)
    use(organization, DAY, 2, api_key_id=KEYS[1], endpoint="/api/v1/maps", period_start=DAY)
    use(organization, DAY, 4, status=404, period_start=DAY)
    use(organization, DAY, 8, status=0, period_start=DAY)
    use(organization, DAY, 16, meter="tokens", period_start=DAY)
    use(rival, DAY, 32, period_start=DAY)

    def units(**narrowed: Any) -> int:
        scope = scope_of(organization, DAY, DAY + timedelta(days=1), **narrowed)
        return series(scope, Interval.DAY).totals.units

    assert units() == 15
    assert units(api_key_id=KEYS[1]) == 2
    assert units(endpoint="/api/v1/maps") == 2
    assert units(statuses=Statuses(400, 499)) == 4
    assert units(statuses=Statuses(0, 0)) == 8
    assert units(period_starts=(before,)) == 1
    assert units(period_starts=(before, DAY)) == 15
    assert units(endpoint="") == 0


def test_percentiles_are_of_calls_and_not_of_what_was_sent_in():
    organization = an_organization()
    use(organization, DAY, status=0)
    scope = scope_of(organization, DAY, DAY + timedelta(days=1))
    assert latency(scope).p50 is None

    slow = [make_event(organization_id=organization.pk, at=DAY, endpoint="/slow") for _ in range(10)]
    for event in slow:
        event.response_ms = 1000
    quick = [make_event(organization_id=organization.pk, at=DAY) for _ in range(90)]
    store([*slow, *quick])

    for narrowed in ({}, {"statuses": Statuses(200, 299)}):
        found = latency(scope_of(organization, DAY, DAY + timedelta(days=1), **narrowed))
        assert found.p50 == pytest.approx(5, rel=0.02)
        assert found.p95 == found.p99 == pytest.approx(1000, rel=0.02)
    everything, by_endpoint = latency_by_endpoint(scope, ["/slow"])
    assert everything == found
    assert by_endpoint["/slow"].p50 == pytest.approx(1000, rel=0.02)
    assert list(by_endpoint) == ["/slow"]


def test_percentiles_of_days_that_are_summed_up_are_the_same():
    organization = an_organization("Asia/Kathmandu")
    made = [make_event(organization_id=organization.pk, at=DAY + timedelta(hours=n % 50)) for n in range(200)]
    for number, event in enumerate(made):
        event.response_ms = number * 3
    store(made)
    scope = scope_of(organization, DAY - timedelta(minutes=345), DAY + timedelta(days=3))
    before = latency_by_endpoint(scope, ["/api/v1/echo"])

    assert sum_days(now=DAY + timedelta(hours=40), since=DAY) == 2

    UsageRollup.objects.filter(organization=organization, hour__lt=DAY + timedelta(hours=38)).update(
        reported_units=0
    )
    assert latency_by_endpoint(scope, ["/api/v1/echo"]) == before
