"""Whatever of a span is summed up, by whichever time zone and how long ago: it reads as its events add up."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.usage.cast import make_event
from tests.usage.test_analytics import BEGINNINGS, ENDPOINTS, KEYS, ZONES, an_organization, measures_of
from usage.analytics import (
    Latency,
    bucket_counts,
    latency,
    latency_by_endpoint,
    latency_by_meter,
    series,
)
from usage.cells import Scope, Statuses, fetch, sums
from usage.days import Day, sum_day, sum_days
from usage.latency import bucket
from usage.ledger import store
from usage.local_time import Interval, following, hour_start, round_down, starts_between
from usage.models import DayTotal, SummedDay, UsageRollup

pytestmark = [pytest.mark.django_db, pytest.mark.long]

HOUR, DAYS = timedelta(hours=1), 4
METERS = ["requests", "tokens"]
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# When, of which meter, how much, by what, how it was answered and how long that took, and in which period.
uses = st.lists(
    st.tuples(
        st.integers(0, DAYS * 86_400 - 1),
        st.sampled_from(METERS),
        st.integers(0, 9),
        st.sampled_from(KEYS),
        st.sampled_from(ENDPOINTS),
        st.sampled_from([0, 200, 404]),
        st.sampled_from([0, 1, 7, 50, 3000]),
        st.integers(0, 1),
    ),
    max_size=30,
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "api_key_id": st.sampled_from(KEYS),
        "endpoint": st.sampled_from(ENDPOINTS),
        "statuses": st.sampled_from([Statuses(0, 0), Statuses(200, 299), Statuses(400, 499)]),
    },
)


@st.composite
def summings(draw: Any) -> dict[str, Any]:
    """How far days were summed up by which zone, which without totals, what came late, which zone was chosen then."""
    return {
        "until": draw(st.none() | st.integers(0, (DAYS + 1) * 24)),
        "without_totals": draw(st.sets(st.integers(0, DAYS))),
        "late": draw(st.integers(0, 8)),
        "zones": draw(st.tuples(st.sampled_from(ZONES), st.sampled_from(ZONES))),
        "again": draw(st.none() | st.integers(0, DAYS)),
    }


def use(organization: Any, beginning: datetime, drawn: list[Any], summing: dict[str, Any]) -> list[Any]:
    """Store an event of each hour and those that are drawn, some after their days were summed up; return them all."""
    made = []
    hourly = [(hour * 3600, METERS[0], 1, KEYS[0], ENDPOINTS[0], 200, 7, 0) for hour in range(DAYS * 24)]
    for second, meter, units, key, endpoint, status, response_ms, period in [*drawn, *hourly]:
        event = make_event(
            organization_id=organization.pk,
            at=beginning + timedelta(seconds=second),
            meter=meter,
            units=units,
            api_key_id=key,
            endpoint=endpoint,
            status=status,
            period_start=beginning - timedelta(days=period),
        )
        event.response_ms = response_ms
        made.append(event)
    late = min(summing["late"], len(drawn))
    store(made[late:])
    before, after = summing["zones"]
    if summing["until"] is not None:
        settled = beginning + summing["until"] * HOUR
        sum_days(now=settled, since=beginning)
        for number, day in enumerate(SummedDay.objects.order_by("starts_at")):
            if number in summing["without_totals"]:
                day.totals.all().delete()
                SummedDay.objects.filter(pk=day.pk).update(has_totals=False)
        if before != after:
            organization.time_zone = after
            organization.save()
            starts = starts_between(
                beginning, beginning + timedelta(days=DAYS), Interval.DAY, ZoneInfo(after)
            )
            if summing["again"] is not None and summing["again"] < len(starts):
                day = Day(organization.pk, METERS[0], starts[summing["again"]], ZoneInfo(after))
                sum_day(day, settled=hour_start(settled))
    store(made[:late])
    return made


def asked(scope: Scope, events: list[Any]) -> list[Any]:
    """Return the events that a scope is of, of all its meters."""
    return [
        event
        for event in events
        if scope.start <= hour_start(event.occurred_at) < scope.end
        and event.meter in {scope.meter, *scope.beside}
        and (not scope.period_starts or event.period_start in scope.period_starts)
        and scope.api_key_id in {None, event.api_key_id}
        and scope.endpoint in {None, event.endpoint}
        and (scope.statuses is None or scope.statuses.low <= event.status <= scope.statuses.high)
    ]


def buckets_of(events: Iterable[Any]) -> Counter[int]:
    return Counter(bucket(event.response_ms) for event in events if event.status)


def latency_of(events: Iterable[Any]) -> Latency:
    return Latency.of(buckets_of(events))


@slow
@given(
    beginning=st.sampled_from(BEGINNINGS),
    drawn=uses,
    summing=summings(),
    span=st.tuples(st.integers(-2, DAYS * 24), st.integers(1, DAYS * 24)),
    period=st.sampled_from([(), (0,), (1,), (0, 1)]),
    narrowed=st.just({}) | filters,
)
def test_any_hours_read_as_their_events_add_up(*, beginning, drawn, summing, span, period, narrowed):
    organization = an_organization(summing["zones"][0])
    made = use(organization, beginning, drawn, summing)
    start = beginning + span[0] * HOUR
    scope = Scope(
        organization,
        METERS[0],
        start,
        start + span[1] * HOUR,
        organization.time_zone,
        period_starts=tuple(beginning - timedelta(days=number) for number in period),
        **narrowed,
    )
    mine = asked(scope, made)

    found = series(scope, Interval.HOUR)

    for point in found.points:
        of_hour = [event for event in mine if hour_start(event.occurred_at) == point.start]
        assert point.measures == measures_of(of_hour), point.start
    assert found.totals == measures_of(mine)
    if scope.is_whole:
        statement = "SELECT coalesce(sum(units), 0)::int8 FROM sums"
        read = fetch(f"{sums(scope)} {statement}", scope.values())
        assert [units for (units,) in read] == [found.totals.units]
    assert bucket_counts(scope)[1] == buckets_of(mine)
    assert latency(scope) == latency_of(mine)
    everything, by_endpoint = latency_by_endpoint(scope, ENDPOINTS[:2])
    assert everything == latency_of(mine)
    assert by_endpoint == {
        endpoint: latency_of(event for event in mine if event.endpoint == endpoint)
        for endpoint in ENDPOINTS[:2]
        if any(event.status for event in mine if event.endpoint == endpoint)
    }


@slow
@given(
    beginning=st.sampled_from(BEGINNINGS),
    drawn=uses,
    summing=summings(),
    first=st.integers(0, DAYS - 1),
    elsewhere=st.none() | st.sampled_from(ZONES),
)
def test_any_days_read_as_their_events_add_up(*, beginning, drawn, summing, first, elsewhere):
    organization = an_organization(summing["zones"][0])
    made = use(organization, beginning, drawn, summing)
    zone = ZoneInfo(elsewhere or organization.time_zone)
    start = round_down(beginning + timedelta(days=first), Interval.DAY, zone)
    end = following(following(start, Interval.DAY, zone), Interval.DAY, zone)
    scope = Scope(organization, METERS[0], start, end, zone.key, beside=(METERS[1],))

    points = series(Scope(organization, METERS[0], start, end, zone.key), Interval.DAY).points

    for point in points:
        day = Scope(organization, METERS[0], point.start, point.end, zone.key)
        assert point.measures == measures_of(asked(day, made)), point.start
    # As the forecast reads the last whole days of several meters.
    statement = "SELECT meter, sum(units)::int8 FROM sums WHERE at >= %(middle)s GROUP BY meter"
    middle = following(start, Interval.DAY, zone)
    read = dict(fetch(f"{sums(scope)} {statement}", {**scope.values(), "middle": middle}))
    for meter in METERS:
        second = Scope(organization, meter, middle, end, zone.key)
        assert read.get(meter, 0) == measures_of(asked(second, made)).units
    for meter, its in latency_by_meter(scope).items():
        assert its == latency_of(event for event in asked(scope, made) if event.meter == meter)


def a_day_of_before() -> Any:
    """Return an organization whose day was summed up before there were totals."""
    organization = an_organization()
    store([make_event(organization_id=organization.pk, at=BEGINNINGS[0] + n * HOUR) for n in range(24)])
    sum_days(now=BEGINNINGS[0] + 48 * HOUR, since=BEGINNINGS[0])
    DayTotal.objects.all().delete()
    SummedDay.objects.update(has_totals=False)
    return organization


def of_day(organization: Any, interval: Interval) -> list[int]:
    start = BEGINNINGS[0]
    scope = Scope(organization, METERS[0], start, start + 24 * HOUR, "UTC")
    assert latency(scope).p50 == pytest.approx(5, rel=0.02)
    return [point.measures.units for point in series(scope, interval).points]


def test_a_day_summed_up_before_there_were_totals_is_read_from_its_hours():
    organization = a_day_of_before()

    assert of_day(organization, Interval.DAY) == [24]
    assert of_day(organization, Interval.HOUR) == [1] * 24


def test_a_day_summed_up_before_there_were_totals_gets_them_by_itself_however_long_ago():
    organization = a_day_of_before()

    assert sum_days(now=BEGINNINGS[0] + timedelta(days=900)) == 1

    assert SummedDay.objects.get().has_totals
    assert DayTotal.objects.count() == 24 + 1
    assert of_day(organization, Interval.DAY) == [24]
    assert sum_days(now=BEGINNINGS[0] + timedelta(days=900)) == 0


def test_what_writes_a_day_and_knows_no_totals_says_that_it_made_none():
    organization = an_organization()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_day (organization_id, meter, time_zone, starts_at, ends_at) VALUES (%s, %s, %s, %s, %s)",
            [organization.pk, METERS[0], "UTC", BEGINNINGS[0], BEGINNINGS[0] + HOUR],
        )

    assert not SummedDay.objects.get().has_totals


def test_rebuilding_rollups_puts_totals_out_of_date_too():
    organization = a_day_of_before()
    sum_days(now=BEGINNINGS[0] + timedelta(days=900))
    UsageRollup.objects.filter(hour=BEGINNINGS[0]).update(units=7)
    assert of_day(organization, Interval.HOUR) == [7] + [1] * 23

    sum_days(now=BEGINNINGS[0] + timedelta(days=900))
    assert of_day(organization, Interval.DAY) == [30]
    call_command("rebuild_rollups")

    assert of_day(organization, Interval.HOUR) == [1] * 24
    assert of_day(organization, Interval.DAY) == [24]


def test_a_day_of_another_zone_counts_by_its_hours_in_the_days_that_they_are_in():
    tokyo, utc = ZoneInfo("Asia/Tokyo"), ZoneInfo("UTC")
    organization = an_organization("Asia/Tokyo")
    start = datetime(2026, 3, 10, tzinfo=tokyo)
    for hours, units in [(1, 2), (11, 5)]:
        at = start + timedelta(hours=hours)
        store([make_event(organization_id=organization.pk, at=at.astimezone(utc), units=units)])
    assert sum_day(Day(organization.pk, "requests", start, tokyo), settled=start + timedelta(days=3))

    first = datetime(2026, 3, 9, tzinfo=utc)
    scope = Scope(organization, "requests", first, first + timedelta(days=3), "UTC")

    assert [point.measures.units for point in series(scope, Interval.DAY).points] == [2, 5, 0]
