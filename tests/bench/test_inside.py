"""A handful of rounds of what `make bench` measures, without the peers and without looking at the times."""

import pytest
from django.conf import settings as project
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from accounts.models import Organization
from apikeys import middleware
from bench import world
from bench.gate import breakdown, describe, kinds_of, redis_at_work
from bench.inside import Application, measure
from bench.report import Report
from bench.stats import Spread
from bench.steps import Stopwatch
from bench.wire import command, connect
from billing.entitlements import refresh_entitlement
from usage import stream
from usage.redis_client import get_redis

pytestmark = pytest.mark.django_db


@pytest.fixture
def callers(plans, settings):
    settings.ROOT_URLCONF = "bench.urls"
    world.sell(per_minute=world.PER_MINUTE, burst=None)
    return world.enroll(3, keys_each=2)


@pytest.fixture
def kinds(callers):
    # As Django's test client does: the end of a request would close the connection that the test's rows live in.
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield kinds_of(Application())
    for signal in signals:
        signal.connect(close_old_connections)


def test_each_kind_is_measured_and_each_gated_call_is_in_the_ledgers_stream(kinds, callers):
    samples = measure(kinds, callers, rounds=6)

    assert {kind: len(took) for kind, took in samples.items()} == dict.fromkeys(kinds, 6)
    assert get_redis().xlen(stream.STREAM) == 6


def test_the_breakdown_names_the_script_call_and_leaves_no_trace(kinds, callers):
    before = middleware.rate_headers

    steps = breakdown(kinds, callers, rounds=3)

    assert {"script call, awaited", "headers", "elsewhere"} <= steps.keys()
    assert middleware.rate_headers is before


def test_what_redis_itself_spends_on_the_script_is_told(kinds, callers):
    assert redis_at_work(kinds["gated"], callers)["evalsha"] > 0


def test_time_spent_in_a_step_is_not_counted_in_the_one_around_it():
    readings = iter(
        [0, 5_000, 25_000, 32_000]
    )  # Nanoseconds: outer begins, inner begins, inner ends, outer ends.
    watch = Stopwatch(lambda: next(readings))

    watch.wrap("outer", watch.wrap("inner", lambda: None))()

    assert watch.take() == {"inner": 20.0, "outer": 12.0}
    assert watch.take() == {}


def test_a_refused_call_stops_the_bench(kinds, callers, settings):
    world.sell(per_minute=1, burst=None)

    for organization in Organization.objects.all():
        refresh_entitlement(organization)
    kinds["gated"](callers[0])

    with pytest.raises(AssertionError, match="429"):
        kinds["gated"](callers[0])


def test_a_report_without_the_peers_says_so():
    spread = {"bare": 300.0, "gated": 400.0, "raw": 50.0, "get": 90.0, "raw, back to back": 20.0}
    report = Report("gate")

    describe(
        report,
        "TCP",
        {
            "spreads": {name: Spread.of([value]).as_dict() for name, value in spread.items()},
            "steps": {"headers": 20.0},
            "redis": {"evalsha": 30.0},
        },
    )

    assert [(figure.ratio, figure.is_met) for figure in report.figures] == [
        (2.0, True),
        (1.111, True),
    ]
    assert "left out" in report.notes[-1]


def test_a_command_made_by_hand_is_understood_by_redis():
    with connect(project.REDIS_URL) as connection:
        connection.sendall(command("ECHO", "grüß"))
        assert connection.recv(100) == "$6\r\ngrüß\r\n".encode()
