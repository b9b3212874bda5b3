"""A stream that grows faster than it is drained: calls write to PostgreSQL themselves, until it is shorter."""

import pytest
from django.db import OperationalError

from tests.flows.stack import wait_for
from tests.usage.cast import make_event
from usage import ledger, pressure, reading, stream
from usage.lines import lines
from usage.metering import record
from usage.models import UsageEvent
from usage.stream import Drain

pytestmark = pytest.mark.django_db
LIMIT = 10


@pytest.fixture(autouse=True)
def limit(settings, monkeypatch):
    settings.STREAM_LIMIT = LIMIT
    monkeypatch.setattr(pressure, "LOOK_EVERY", 0)
    pressure.pressure.forget()
    yield LIMIT
    pressure.pressure.forget()
    lines.attempts = []


@pytest.fixture
def serve(organization):
    def serve(calls):
        for _ in range(calls):
            record(make_event(organization_id=organization.pk, at=organization.created_at))

    return serve


def look():
    lines.confirm()
    pressure.pressure.look()


def test_up_to_the_limit_events_go_to_the_stream(serve):
    serve(LIMIT)
    look()
    serve(1)
    lines.confirm()

    assert stream.length() == LIMIT + 1
    assert UsageEvent.objects.count() == 0


def test_beyond_it_each_call_stores_its_own_event_and_the_stream_stops_growing(serve):
    serve(LIMIT + 1)
    look()
    serve(5)

    assert stream.length() == LIMIT + 1
    assert UsageEvent.objects.count() == 5


def test_calls_go_back_to_the_stream_below_four_fifths_of_the_limit(serve, monkeypatch):
    # A drain that stores two at a time.
    for module, name in ((reading, "PAGE"), (stream, "PAGE"), (stream, "MOST")):
        monkeypatch.setattr(module, name, 2)
    serve(LIMIT + 1)
    look()
    drain = Drain(consumer="slow")
    drain.run_once()
    look()
    serve(1)
    assert stream.length() == 9
    drain.run_once()
    look()
    serve(1)
    lines.confirm()

    assert stream.length() == 8
    while drain.run_once():
        pass
    assert UsageEvent.objects.count() == LIMIT + 3


def test_the_thread_that_reads_answers_is_who_looks(serve):
    serve(LIMIT + 1)

    wait_for(lambda: pressure.pressure.is_on, seconds=60, what="the look at the stream")
    while Drain(consumer="quick").run_once():
        pass

    wait_for(lambda: not pressure.pressure.is_on, seconds=60, what="the next look, with nothing appended")


def test_while_postgresql_takes_nothing_either_the_stream_does(serve, monkeypatch):
    serve(LIMIT + 1)
    look()

    def refuse(events):
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "store", refuse)
        serve(3)
    lines.confirm()
    assert stream.length() == LIMIT + 4
    serve(1)  # A pause of some seconds: not every call finds out anew.
    lines.confirm()
    assert stream.length() == LIMIT + 5

    pressure.pressure.waits_until = 0
    serve(1)
    assert stream.length() == LIMIT + 5


def test_an_event_costs_about_200_bytes_of_redis(organization, redis):
    for _ in range(2000):
        event = make_event(organization_id=organization.pk, at=organization.created_at)
        stream.deliver(event)

    assert 150 < redis.memory_usage(stream.STREAM, samples=0) / 2000 < 250
