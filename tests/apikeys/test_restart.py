"""Redis that comes back from an older file: a real one, killed, with the file of before put in its place."""

import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from redis import Redis

from apikeys import cache
from apikeys.gate import admit
from apikeys.models import APIKey
from tests.apikeys.test_gate import set_limits, used
from tests.usage.cast import serve
from tests.usage.ingesting import sell
from usage.lines import lines
from usage.models import UsageEvent
from usage.redis_client import get_redis
from usage.restarts import RUN
from usage.stream import Drain

pytestmark = pytest.mark.django_db
FILES = ["dump.rdb", "appendonly.aof"]


class Snapshots:
    """Redis's file, kept aside and put back as an operator would who restores a backup."""

    def __init__(self, own_redis, tmp_path):
        self.own, self.kept = own_redis, tmp_path / "kept"

    def take(self):
        get_redis().config_set("appendonly", "no")
        get_redis().save()
        self.kept.mkdir(exist_ok=True)
        shutil.copy(self.own.directory / "dump.rdb", self.kept)

    def kill_and_restore(self):
        self.kill()
        for name in FILES:
            (self.own.directory / name).unlink(missing_ok=True)
        shutil.copy(self.kept / "dump.rdb", self.own.directory)
        self.start_from_dump()

    def kill(self):
        os.kill(int((self.own.directory / "redis.pid").read_text()), signal.SIGKILL)
        self.own.stop()

    def start_from_dump(self):
        # With its append-only file switched on Redis reads that one alone.
        self.own.start(durable=False)


@pytest.fixture
def snapshots(own_redis, tmp_path):
    return Snapshots(own_redis, tmp_path)


def drain_all():
    drain = Drain(consumer="restart")
    while drain.run_once():
        pass


def test_after_a_restart_from_an_older_file_the_next_call_counts_right(organization, api_key, snapshots):
    set_limits(organization, rate=None, quota=10)
    serve(api_key, calls=2)
    drain_all()
    snapshots.take()
    serve(api_key, calls=6)
    drain_all()
    assert used(organization) == 8

    snapshots.kill_and_restore()

    decisions = [admit(api_key.secret) for _ in range(3)]
    assert [each.reason for each in decisions] == ["admitted", "admitted", "quota_exceeded"]
    assert decisions[0].used == 9


def test_after_a_restart_with_its_whole_file_calls_that_are_being_served_still_count(
    organization, api_key, snapshots
):
    set_limits(organization, rate=None, quota=10)
    serve(api_key, calls=2)
    drain_all()
    assert admit(api_key.secret).used == 3  # It takes longer than Redis needs to come back.
    snapshots.take()

    snapshots.kill_and_restore()

    assert admit(api_key.secret).used == 4


def test_events_of_the_older_file_that_the_ledger_has_already_count_once(organization, api_key, snapshots):
    set_limits(organization, rate=None, quota=10)
    serve(api_key, calls=3)
    snapshots.take()  # With three on the stream.
    serve(api_key, calls=2)
    drain_all()
    assert UsageEvent.objects.count() == 5

    snapshots.kill_and_restore()

    assert admit(api_key.secret).used == 6
    drain_all()
    assert UsageEvent.objects.count() == 5


def test_a_key_that_was_revoked_since_the_file_stays_out(organization, api_key, snapshots):
    assert admit(api_key.secret).admitted
    snapshots.take()
    api_key.key.revoke()

    snapshots.kill_and_restore()

    assert APIKey.objects.get().revoked_at
    assert admit(api_key.secret).reason == "invalid_key"


def test_a_process_that_starts_after_the_restart_sees_it_too(organization, api_key, snapshots):
    set_limits(organization, rate=None, quota=10)
    serve(api_key, calls=1)
    snapshots.take()
    serve(api_key, calls=4)
    drain_all()
    snapshots.kill_and_restore()
    get_redis.cache_clear()  # It knows nothing of the run before.
    lines.close()

    assert admit(api_key.secret).used == 6


def test_the_stream_the_windows_and_reservations_stay(organization, api_key, snapshots):
    serve(api_key, calls=3)
    get_redis().hset(f"tollgate:{{{organization.ref}}}:reservations", "one", "unreadable")
    snapshots.take()

    snapshots.kill_and_restore()

    redis, names = get_redis(), cache.names(organization.ref)
    assert not redis.exists(names.facts)
    assert redis.hget(names.used, cache.BORN) is None
    assert redis.llen(names.window) == 3
    assert redis.xlen("tollgate:usage:events") == 3
    assert redis.exists(f"tollgate:{{{organization.ref}}}:reservations")


@pytest.mark.django_db(transaction=True)
def test_many_who_come_at_once_after_the_restart_pass_no_quota(organization, api_key, snapshots):
    set_limits(organization, rate=None, quota=20)
    serve(api_key, calls=3)
    drain_all()
    snapshots.take()
    serve(api_key, calls=9)
    drain_all()
    snapshots.kill_and_restore()

    def call(_):
        try:
            return admit(api_key.secret).admitted
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as callers:
        admitted = sum(callers.map(call, range(40)))

    assert admitted == 8


def test_a_new_connection_to_the_same_run_drops_nothing(organization, api_key, own_redis):
    assert [admit(api_key.secret).used for _ in range(3)] == [1, 2, 3]
    born = get_redis().hget(cache.names(organization.ref).used, cache.BORN)

    get_redis.cache_clear()
    lines.close()

    assert admit(api_key.secret).used == 4
    assert get_redis().hget(cache.names(organization.ref).used, cache.BORN) == born


def test_counters_of_a_server_that_was_emptied_are_kept_by_who_connects_later(
    organization, api_key, own_redis
):
    get_redis().flushall()
    assert admit(api_key.secret).used == 1

    get_redis.cache_clear()
    lines.close()

    assert admit(api_key.secret).used == 2
    assert get_redis().get(RUN) == get_redis().info("server")["run_id"]


def test_a_login_that_may_not_ask_which_run_it_is_goes_on_without(organization, api_key, own_redis, settings):
    admin = Redis.from_url(own_redis.url)
    admin.execute_command("ACL", "SETUSER", "default", "-info")
    try:
        get_redis.cache_clear()
        lines.close()

        assert admit(api_key.secret).used == 1
    finally:
        admin.execute_command("ACL", "SETUSER", "default", "+info")


@pytest.mark.parametrize("slug", ["read", "mark", "back"])
def test_a_counter_is_kept_whatever_its_meter_is_called(organization, api_key, own_redis, slug):
    """The counters' hash has names of its own that begin so, of what is being measured."""
    sell(organization, slug, included=10)
    assert admit(api_key.secret, meter=slug, cost=6).used == 6
    own_redis.stop()
    own_redis.start()

    assert admit(api_key.secret, meter=slug, cost=5).reason == "quota_exceeded"
    assert admit(api_key.secret, meter=slug, cost=4).used == 10
