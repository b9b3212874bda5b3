"""Real drains, in processes of their own, whose stores and whose lives end at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from redis import Redis

from bench import stores
from config import embedded
from tests.holding import holds, in_hand, let_time_pass
from tests.usage.cast import make_event
from usage.holds import key_of
from usage.stream import GROUP, STREAM

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SET_UP = """
import json
from bench import world
world.set_up()
world.make_tables()
from billing.seeds import seed_plans, seed_policies
from accounts.models import Organization
seed_plans(), seed_policies()
print(json.dumps(str(Organization.objects.create(name="Acme", email="owner@acme.example").pk)))
"""


class Place:
    """PostgreSQL and Redis that drains of this module use, and whoever fills and restarts them."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment}
        self.directory = Path(environment["VAR_DIR"])
        self.redis = Redis.from_url(environment["REDIS_SOCKET_URL"], protocol=2, decode_responses=True)
        self.drains: list[subprocess.Popen[bytes]] = []
        self.organization = UUID(json.loads(self.run("-c", SET_UP)))
        self.appended = 0

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=120,
        )
        return done.stdout.decode()

    def start_drain(self) -> subprocess.Popen[bytes]:
        drain = subprocess.Popen(
            [sys.executable, "manage.py", "drain_usage"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.drains.append(drain)
        return drain

    def append(self, number: int, *, at: datetime | None = None) -> None:
        at = at or datetime.now(UTC)
        pipeline = self.redis.pipeline(transaction=False)
        for n in range(number):
            event = make_event(
                organization_id=self.organization,
                at=at - timedelta(milliseconds=n),
                status=200 + n % 7,
                period_start=datetime(at.year, at.month, 1, tzinfo=UTC) - timedelta(days=1),
            )
            pipeline.xadd(STREAM, {"e": event.encode()})
        pipeline.execute()
        self.appended += number

    def counted(self) -> tuple[int, int]:
        """Return how many events are in the ledger, and how many calls in the rollups."""
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM usage_event), (SELECT coalesce(sum(calls), 0) FROM usage_rollup)"
            ).fetchone()
        assert row
        return row[0], int(row[1])

    def in_hand(self) -> int:
        """Return how many entries drains have taken and not acknowledged."""
        return len(in_hand(self.redis))

    def is_drained(self) -> bool:
        return self.redis.xlen(STREAM) == 0 and not holds(self.redis)

    def readers(self) -> int:
        """Return how many drains wait at the stream."""
        return sum(client["cmd"] == "xread" for client in self.redis.client_list())

    def end(self) -> None:
        for drain in self.drains:
            drain.kill()
            drain.wait()
        self.drains.clear()


def until(done: Callable[[], bool], *, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline, "It does not come about."
        time.sleep(0.02)


@pytest.fixture(scope="module")
def built():
    with stores.running("drain-crashes") as environment:
        yield Place(environment)


@pytest.fixture
def place(built):
    built.redis.delete(STREAM, key_of(STREAM))
    yield built
    built.end()


@pytest.mark.parametrize("when", ["in hand", "stored"])
def test_drains_killed_at_any_point_leave_every_event_counted_once(place, when):
    crew = [place.start_drain(), place.start_drain()]
    until(lambda: place.readers() == 2)
    before = place.appended
    place.append(6_000)
    # They may have been in hand and stored before anybody looks.
    until(lambda: (when == "in hand" and place.in_hand() > 0) or place.counted()[0] > before)
    for drain in crew:
        drain.send_signal(signal.SIGKILL)
        drain.wait()
    let_time_pass(place.redis, ms=60_000)
    place.append(10)
    place.start_drain()
    until(place.is_drained)

    assert place.counted() == (place.appended, place.appended)


def test_a_running_drain_survives_a_restart_of_postgresql(place):
    drain = place.start_drain()
    place.append(500)
    until(lambda: place.counted()[0] > place.appended - 500)
    embedded.stop_postgres(place.directory / "postgres")
    place.append(500)
    until(lambda: place.in_hand() > 0)
    embedded.start_postgres(place.directory / "postgres")
    until(place.is_drained)

    assert drain.poll() is None
    assert place.counted() == (place.appended, place.appended)


def test_a_running_drain_survives_redis_being_gone_and_emptied(place):
    drain = place.start_drain()
    place.append(500)
    until(place.is_drained)
    place.redis.flushall()  # Stream, group and readers.
    place.append(500)
    until(lambda: bool(place.redis.exists(STREAM)) and place.counted()[0] == place.appended)
    place.redis.client_kill_filter(_type="normal", skipme=True)
    place.append(500)
    until(place.is_drained)

    assert drain.poll() is None
    assert place.counted() == (place.appended, place.appended)


def test_two_drains_that_need_the_same_new_month_store_everything(place):
    place.start_drain()
    place.start_drain()
    until(lambda: place.readers() == 2)
    for month in range(1, 9):
        place.append(300, at=datetime(2019, month, 5, tzinfo=UTC))
    until(place.is_drained)

    assert place.counted() == (place.appended, place.appended)


def test_a_drain_told_to_stop_takes_its_name_off_the_group(place):
    drain = place.start_drain()
    place.append(100)
    until(lambda: place.counted()[0] == place.appended)
    drain.terminate()

    assert drain.wait(timeout=30) == 0
    assert place.redis.xinfo_consumers(STREAM, GROUP) == []
