"""What goes wrong elsewhere with usage on its way to the ledger, and does not here."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import RedisError

from accounts import clock
from tests.holding import let_time_pass, take
from tests.usage.cast import make_event, serve
from usage import ledger, stream
from usage.lines import lines
from usage.metering import record
from usage.models import MeterReport, UsageEvent, UsageRollup
from usage.reading import Reader
from usage.redis_client import get_redis
from usage.reports import make_reports

pytestmark = pytest.mark.django_db


def counts():
    return UsageEvent.objects.count(), UsageRollup.objects.units()


def test_an_event_whose_storing_fails_is_not_taken_for_stored_when_it_comes_again(
    api_key, drain, monkeypatch
):
    """Complaint 4: where the key that tells a duplicate is claimed before the write, such usage counts zero."""
    serve(api_key, calls=3)

    def fail(*args, **options):
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as broken:
        # The rows are in the ledger and the rollups, and then the transaction fails.
        broken.setattr(ledger.events_stored, "send", fail)
        with pytest.raises(OperationalError):
            drain.run_once()
    assert counts() == (0, 0)

    assert drain.recover() == 3
    assert counts() == (3, 3)


def test_an_event_sent_again_after_its_first_sender_died_before_the_write_is_counted(api_key, drain):
    """Complaint 4, the other way round: a claim that nobody fulfils."""
    (event,) = serve(api_key, calls=1)
    Reader(stream.STREAM, stream.GROUP, "dies here").read()
    stream.deliver(event)

    assert drain.run_once() == 1
    assert drain.take_over(idle_ms=0) == 1
    assert counts() == (1, 1)


def test_a_batch_stored_and_not_acknowledged_is_flushed_once_however_often_it_comes(
    api_key, drain, monkeypatch, redis
):
    """Complaint 22: counters flushed twice."""
    serve(api_key, calls=4)

    def lose(*args):
        raise Unreachable("Redis is gone between the commit and the acknowledgement")

    with monkeypatch.context() as broken:
        broken.setattr(drain.reader, "acknowledge", lose)
        for attempt in (drain.run_once, drain.recover, drain.recover):
            with pytest.raises(RedisError):
                attempt()
    make_reports()

    assert drain.recover() == 4
    make_reports()
    assert counts() == (4, 4)
    assert sum(MeterReport.objects.values_list("units", flat=True)) == 4
    assert redis.xlen(stream.STREAM) == 0


def test_two_drains_with_the_same_batch_in_hand_count_it_once(api_key, drain):
    """Complaint 22: a slow one is taken for dead, and finishes after all."""
    serve(api_key, calls=5)
    slow = Reader(stream.STREAM, stream.GROUP, "slow")
    had = slow.read()
    drain.take_over(idle_ms=0)
    late = stream.Drain(consumer="slow")

    assert late.store(had) == 5
    assert counts() == (5, 5)


def test_no_event_is_lost_while_another_drain_has_older_ones_in_hand(api_key, drain, redis):
    """Complaint 22: taking out of the stream what is done with takes nothing else."""
    serve(api_key, calls=2)
    slow = Reader(stream.STREAM, stream.GROUP, "slow")
    slow.read()
    serve(api_key, calls=3)
    drain.run_once()

    assert redis.xlen(stream.STREAM) >= 2
    assert drain.take_over(idle_ms=0) == 2
    assert counts() == (5, 5)
    assert redis.xlen(stream.STREAM) == 0


def test_a_drain_that_stalls_does_not_keep_what_others_have_stored_in_memory(
    api_key, drain, redis, monkeypatch
):
    serve(api_key, calls=2)
    Reader(stream.STREAM, stream.GROUP, "stalls").read()
    monkeypatch.setattr("usage.reading.STALLED_MS", -1)
    serve(api_key, calls=3)
    drain.run_once()

    assert redis.xlen(stream.STREAM) == 2


def test_entries_that_somebody_trimmed_are_given_up_with_an_error_and_stop_nobody(
    api_key, drain, redis, caplog
):
    serve(api_key, calls=2)
    Reader(stream.STREAM, stream.GROUP, "dies here").read()
    lines.confirm()
    redis.xtrim(stream.STREAM, maxlen=0, approximate=False)
    serve(api_key, calls=1)
    newest = stream.last_id()

    assert drain.run_once() == 1
    drain.take_over(idle_ms=0)
    assert "2 entries were removed from tollgate:usage:events before they were stored" in caplog.text
    assert stream.is_stored(newest)
    assert counts() == (1, 1)


def test_a_group_that_is_missing_is_made_anew(api_key, drain, redis):
    serve(api_key, calls=1)
    drain.run_once()
    redis.flushdb()
    serve(api_key, calls=2)
    lines.confirm()

    assert drain.run_once() == 2
    assert counts() == (3, 3)


def test_readers_that_died_long_ago_are_forgotten_and_those_with_work_in_hand_are_not(api_key, drain, redis):
    serve(api_key, calls=1)
    Reader(stream.STREAM, stream.GROUP, "busy").read()
    for name in ("dead", "dead too"):
        redis.xgroup_createconsumer(stream.STREAM, stream.GROUP, name)

    assert drain.clean_up(idle_ms=60_000) == 0
    assert drain.clean_up(idle_ms=-1) == 3  # The drain's own too, which has nothing in hand.
    assert [consumer["name"] for consumer in redis.xinfo_consumers(stream.STREAM, stream.GROUP)] == ["busy"]


def test_with_redis_full_calls_go_to_the_ledger_and_what_waits_is_still_drained(own_redis, api_key, caplog):
    redis = get_redis()
    drain = stream.Drain(consumer="test")
    waiting = serve(api_key, calls=2)
    lines.confirm()
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", 1)
    at = waiting[0].occurred_at
    refused = make_event(organization_id=api_key.key.organization_id, at=at)
    record(refused)
    lines.confirm()

    assert UsageEvent.objects.get().id == refused.id
    assert drain.run_once() == 2
    assert counts() == (3, 3)
    assert redis.xlen(stream.STREAM) == 0


def test_with_redis_full_what_cannot_be_set_aside_waits_and_stops_nobody(own_redis, api_key):
    redis = get_redis()
    drain = stream.Drain(consumer="test")
    serve(api_key, calls=1)
    stream.lines.call("XADD", stream.STREAM, "*", "e", "no event")
    serve(api_key, calls=1)
    lines.confirm()
    redis.config_set("maxmemory", 1)
    drain.run_once()
    assert counts() == (2, 2)
    redis.config_set("maxmemory", 0)

    drain.recover()
    assert [fields["e"] for _, fields in redis.xrange(stream.REFUSED)] == ["no event"]
    assert redis.xlen(stream.STREAM) == 0


def test_a_page_that_nobody_takes_keeps_no_other_of_a_dead_drain_waiting(api_key, drain, redis, monkeypatch):
    monkeypatch.setattr("usage.reading.PAGE", 3)
    monkeypatch.setattr(stream, "set_aside", lambda text, why: False)
    for _ in range(3):
        redis.xadd(stream.STREAM, {"e": "no event"})
    serve(api_key, calls=3)
    lines.confirm()
    for _ in range(2):
        take("dies here")
    let_time_pass(redis, ms=60_000)
    while drain.take_over():
        pass
    drain.clean_up()

    assert counts() == (3, 3)
    assert [fields["e"] for _, fields in redis.xrange(stream.STREAM)] == ["no event"] * 3


def test_what_a_drain_of_version_0_1_had_in_hand_is_not_taken_for_stored(api_key, redis):
    stream.Drain(consumer="makes the group")
    serve(api_key, calls=2)
    newest = stream.last_id()
    redis.xreadgroup(stream.GROUP, "old", {stream.STREAM: ">"})
    assert not stream.is_stored(newest)

    drain = stream.Drain()
    assert not stream.is_stored(newest)
    assert drain.take_over(idle_ms=0) == 2
    assert stream.is_stored(newest)


def test_a_new_month_is_stored_from_its_first_moment_on(organization, drain):
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    with clock.standing_at(midnight - timedelta(seconds=1)) as hands:
        stream.deliver(make_event(organization_id=organization.pk, at=midnight - timedelta(microseconds=1)))
        drain.run_once()
        hands.move(midnight)
        stream.deliver(make_event(organization_id=organization.pk, at=midnight))
        drain.run_once()

    assert counts() == (2, 2)
