"""A batch gets into the ledger in one of two ways: with one outcome, that of a slow and simple model."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import IntegrityError, connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from accounts import clock
from accounts.models import Organization
from tests.usage.cast import make_event
from usage import latency, stream
from usage.batches import Batch, microseconds
from usage.events import Event, uuid7
from usage.ledger import store, store_new
from usage.models import UsageEvent, UsageRollup
from usage.signals import events_stored

pytestmark = pytest.mark.django_db
AT = datetime(2026, 11, 15, 12, 30, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
FIELDS = [
    *(
        "id",
        "occurred_at",
        "organization_id",
        "api_key_id",
        "meter",
        "units",
        "period_start",
        "endpoint",
        "method",
    ),
    *("status", "response_ms"),
]
ROLLUP = ["organization_id", "meter", "hour", "period_start", "api_key_id", "endpoint", "status"]


@pytest.fixture(autouse=True)
def hands():
    with clock.standing_at(AT) as hands:
        yield hands


@pytest.fixture
def rival(organization, django_user_model):
    owner = django_user_model.objects.create_user("owner@rival.example", "correct horse battery")
    return Organization.objects.open(name="Rival", owner=owner)


@st.composite
def described_events(draw):
    """An event of few customers, keys and endpoints, at moments that often share an hour, some of them late."""
    at = AT + timedelta(
        minutes=draw(st.integers(-60 * 24 * 45, 59) | st.integers(-90, 59)),
        microseconds=draw(st.integers(0, 2)),
    )
    # A period that began in the middle of the hour, the month's, and one that goes on from the month before.
    starts = [AT - timedelta(minutes=15), MONTH, at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    return {
        "id": uuid7(at),
        "occurred_at": at,
        "organization": draw(st.integers(0, 1)),
        "api_key_id": UUID(int=draw(st.integers(1, 2))),
        "meter": draw(st.sampled_from(["requests", "tokens"])),
        "units": draw(st.integers(0, 5) | st.just(2**40)),
        "period_start": draw(st.sampled_from([start for start in starts if start <= at])),
        "endpoint": draw(st.sampled_from(["/a", "/π|b", ""])),
        "method": draw(st.sampled_from(["GET", "POST"])),
        "status": draw(st.sampled_from([0, 200, 404])),
        "response_ms": draw(st.sampled_from([0, 1, 5, 250]) | st.integers(0, 2**31 - 1)),
    }


def events_of(described, organizations):
    return [
        Event(
            organization_id=organizations[each["organization"]],
            **{name: value for name, value in each.items() if name != "organization"},
        )
        for each in described
    ]


def forget_all():
    UsageRollup.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_event")


def what_is_stored():
    ledger = sorted(UsageEvent.objects.values_list(*FIELDS))
    rollups = {
        key: (units, calls, ms, latency.decode(histogram))
        for *key, units, calls, ms, histogram in UsageRollup.objects.values_list(
            *ROLLUP, "units", "calls", "response_ms", "latency"
        )
        for key in [tuple(key)]
    }
    return ledger, rollups


def what_the_model_says(batches):
    known = {}
    for event in (event for batch in batches for event in batch):
        known.setdefault((event.id, event.occurred_at), event)
    ledger = sorted(tuple(getattr(event, name) for name in FIELDS) for event in known.values())
    rollups = defaultdict(lambda: (0, 0, 0, Counter()))
    for event in known.values():
        hour = event.occurred_at.replace(minute=0, second=0, microsecond=0)
        key = tuple(hour if name == "hour" else getattr(event, name) for name in ROLLUP)
        units, calls, ms, histogram = rollups[key]
        histogram[latency.bucket(event.response_ms)] += 1
        rollups[key] = (units + event.units, calls + 1, ms + event.response_ms, histogram)
    return ledger, dict(rollups)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    described=st.lists(described_events(), min_size=1, max_size=12),
    picks=st.lists(st.lists(st.integers(0, 11), max_size=14), max_size=5),
)
def test_both_ways_store_any_batches_as_the_model_does(organization, rival, drain, described, picks):
    events = events_of(described, [organization.pk, rival.pk])
    batches = [[events[pick % len(events)] for pick in batch] for batch in picks]

    forget_all()
    for batch in batches:
        for event in batch:
            stream.deliver(event)
        drain.run_once()
    by_drain = what_is_stored()
    forget_all()
    for batch in batches:
        store(batch)

    assert by_drain == what_is_stored() == what_the_model_says(batches)


def test_a_batch_of_new_events_is_copied_and_not_staged(organization, drain, monkeypatch):
    monkeypatch.setattr(stream, "store", lambda events: pytest.fail("It was staged."))
    for minute in range(3):
        stream.deliver(make_event(organization_id=organization.pk, at=AT + timedelta(minutes=minute)))

    assert drain.run_once() == 3
    assert UsageRollup.objects.get().calls == 3


def test_a_batch_with_one_event_that_is_there_is_copied_not_at_all(organization):
    events = [
        make_event(organization_id=organization.pk, at=AT + timedelta(minutes=minute)) for minute in range(3)
    ]
    store(events[1:2])
    batch = Batch(start=microseconds(MONTH), end=microseconds(AT + timedelta(days=1)))

    with pytest.raises(IntegrityError):
        store_new(batch, [batch.add([event.encode().encode() for event in events])])
    assert UsageEvent.objects.get().id == events[1].id
    assert UsageRollup.objects.get().calls == 1


@pytest.mark.parametrize("again", [False, True])
def test_both_ways_tell_when_a_key_was_last_used(organization, drain, again):
    told = []
    events_stored.connect(receiver := lambda last_served, **kwargs: told.append(last_served), weak=False)
    minutes = [3, 9, 4]
    events = [
        make_event(
            organization_id=organization.pk,
            at=AT + timedelta(minutes=minute),
            api_key_id=UUID(int=minute % 2),
        )
        for minute in minutes
    ]
    for event in [*events, *events[: int(again)]]:
        stream.deliver(event)
    drain.run_once()
    events_stored.disconnect(receiver)

    assert told[-1] == {UUID(int=1): AT + timedelta(minutes=9), UUID(int=0): AT + timedelta(minutes=4)}


def test_pages_and_batches_of_any_size_are_drained_whole(organization, drain, redis, monkeypatch):
    monkeypatch.setattr(stream, "PAGE", 3)
    monkeypatch.setattr("usage.reading.PAGE", 3)
    monkeypatch.setattr(stream, "MOST", 6)
    for number in range(20):
        stream.deliver(make_event(organization_id=organization.pk, at=AT + timedelta(seconds=number)))

    counts = [drain.run_once() for _ in range(5)]
    assert (counts, UsageRollup.objects.get().calls, redis.xlen(stream.STREAM)) == ([6, 6, 6, 2, 0], 20, 0)


@pytest.mark.parametrize("wrong", ["x" * 32, "", "0" * 31, "0" * 33])
def test_an_id_that_is_none_stops_nobody(organization, drain, redis, wrong):
    good = make_event(organization_id=organization.pk, at=AT)
    stream.deliver(good)
    redis.xadd(stream.STREAM, {"e": good.encode().replace(good.id.hex, wrong)})
    drain.run_once()

    assert UsageEvent.objects.get().id == good.id
    assert redis.xlen(stream.REFUSED) == 1


def bad_entries(organization_id):
    good = make_event(organization_id=organization_id, at=AT)
    fields = good.encode().split("|")

    def with_field(place, value):
        return "|".join([*fields[:place], value, *fields[place + 1 :]])

    return {
        "a NUL in the endpoint": with_field(10, "/a\0b"),
        "a NUL in the meter": with_field(5, "re\0quests"),
        "too long an endpoint": with_field(10, "x" * 201),
        "too long a meter": with_field(5, "x" * 41),
        "too long a method": with_field(8, "X" * 11),
        "units beyond bigint": with_field(6, str(2**63)),
        "negative units": with_field(6, "-1"),
        "units that are no number": with_field(6, "NaN"),
        "a status beyond smallint": with_field(9, "40000"),
        "a response time beyond integer": with_field(2, str(2**31)),
        "a period that begins after it": with_field(7, str(microseconds(AT) + 1)),
        "year 1": with_field(1, str(microseconds(datetime(1, 1, 1, tzinfo=UTC)))),
        "year 9999": with_field(1, str(microseconds(datetime(9999, 12, 31, tzinfo=UTC)))),
        "no year at all": with_field(1, str(2**62)),
        "nobody's organization": with_field(3, UUID(int=42).hex),
        "no UTF-8": b"\xff\xfe" + fields[0].encode()[2:],
        "nothing": "",
        "too few fields": "|".join(fields[:7]),
    }


BAD = list(bad_entries(UUID(int=7)))


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_stored_is_set_aside_as_it_came_and_stops_nobody(organization, drain, redis, kind):
    bad = bad_entries(organization.pk)[kind]
    before, after = (make_event(organization_id=organization.pk, at=AT) for _ in range(2))
    stream.deliver(before)
    redis.xadd(stream.STREAM, {"e": bad})
    stream.deliver(after)

    assert drain.run_once() == 3
    assert set(UsageEvent.objects.values_list("id", flat=True)) == {before.id, after.id}
    assert UsageRollup.objects.get().calls == 2
    raw = redis.execute_command("XRANGE", stream.REFUSED, "-", "+", NEVER_DECODE=True)
    assert [list(fields.values()) for _, fields in raw] == [[bad if isinstance(bad, bytes) else bad.encode()]]
    assert redis.xlen(stream.STREAM) == 0


def test_sums_beyond_what_a_rollup_holds_are_set_aside(organization, drain, redis):
    for _ in range(3):
        stream.deliver(make_event(organization_id=organization.pk, at=AT, units=2**62))
    drain.run_once()

    assert UsageRollup.objects.get().units == 2**62
    assert (UsageEvent.objects.count(), redis.xlen(stream.REFUSED)) == (1, 2)


@example(bad={0, 1, 2, 3})
@given(bad=st.sets(st.integers(0, 24)))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bad_ones_among_many_are_found(organization, drain, redis, bad):
    forget_all()
    redis.delete(stream.REFUSED)
    events = [
        make_event(
            organization_id=UUID(int=42) if n in bad else organization.pk, at=AT + timedelta(seconds=n)
        )
        for n in range(25)
    ]
    for event in events:
        stream.deliver(event)
    drain.run_once()

    assert set(UsageEvent.objects.values_list("id", flat=True)) == {
        event.id for n, event in enumerate(events) if n not in bad
    }
    assert redis.xlen(stream.REFUSED) == len(bad)
