"""Usage entries are sent without waiting: what becomes of those whose answer is bad, late or never comes."""

from functools import partial

import pytest
from django.db import OperationalError, transaction
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from tests.usage.cast import make_event, serve
from usage import ledger, lines, metering, stream
from usage.lines import Line, Lines
from usage.models import UsageEvent
from usage.signals import event_delayed, events_stored

KEY = "tests:list"


@pytest.fixture
def own():
    own = Lines()
    yield own
    own.close()


def unexpected():
    raise AssertionError("This was to arrive.")


def test_what_was_sent_is_there_when_the_next_command_is_answered(own, redis):
    for number in range(5):
        own.send("RPUSH", KEY, number, failed=unexpected)

    assert own.call("LLEN", KEY) == 5
    assert own.idle[0].unread == []


def test_answers_are_read_though_no_command_follows(own, redis):
    own.send("RPUSH", KEY, "x", failed=unexpected)

    own.confirm()

    assert own.idle[0].unread == []
    assert redis.llen(KEY) == 1


def test_answers_that_nobody_reads_do_not_pile_up(own, redis):
    for number in range(lines.MOST_UNREAD * 3):
        own.send("RPUSH", KEY, number, failed=unexpected)

        assert len(own.idle[0].unread) < lines.MOST_UNREAD


def test_one_connection_serves_one_caller_after_the_other(own):
    for _ in range(10):
        own.call("PING")

    assert len(own.idle) == 1


def test_an_entry_that_redis_refuses_fails_and_the_command_after_it_does_not(own, redis):
    redis.set(KEY, "no list")
    failures = []
    own.send("RPUSH", KEY, "x", failed=partial(failures.append, "x"))

    assert own.call("PING") == "PONG"
    assert failures == ["x"]


def test_a_command_that_redis_refuses_raises_and_the_connection_goes_on(own, redis):
    redis.set(KEY, "no list")

    with pytest.raises(RedisError, match="WRONGTYPE"):
        own.call("LLEN", KEY)

    assert own.call("GET", KEY) == "no list"
    assert len(own.idle) == 1


def test_a_connection_that_redis_has_closed_is_made_anew(own, redis):
    own.call("PING")
    redis.client_kill_filter(_id=own.call("CLIENT", "ID"))

    assert own.call("PING") == "PONG"


class HangsUp:
    """A socket whose other end takes a command and hangs up before it answers."""

    def __init__(self, socket):
        self.socket = socket

    def sendall(self, packed):
        self.socket.sendall(packed)
        while not self.socket.recv(65536):
            pass

    def recv(self, size):
        return b""


@pytest.mark.parametrize(("is_repeatable", "times"), [(True, 2), (False, 1)])
def test_what_may_have_been_carried_out_is_only_repeated_where_that_is_allowed(
    own, redis, is_repeatable, times
):
    own.call("PING")
    own.idle[0].socket = HangsUp(own.idle[0].socket)

    if is_repeatable:
        own.call("INCR", KEY)
    else:
        with pytest.raises(Lost):
            own.ask(("INCR", KEY), is_repeatable=False)

    assert int(redis.get(KEY)) == times


def test_what_was_not_sent_is_repeated_in_any_case(own, redis):
    own.call("PING")
    own.idle[0].socket.close()

    assert own.ask(("INCR", KEY), is_repeatable=False) == 1


def test_entries_on_a_connection_that_was_lost_fail_each(own, redis):
    failures = []
    client = own.call("CLIENT", "ID")
    line = own.idle[0]
    line.unread += [partial(failures.append, "first"), partial(failures.append, "second")]
    redis.client_kill_filter(_id=client)

    own.confirm()

    assert failures == ["first", "second"]
    assert own.idle == []


def test_a_connection_that_was_lost_at_its_first_command_is_not_tried_for_ever(own, monkeypatch):
    def lose(line, command):
        raise Lost("gone")

    monkeypatch.setattr(Line, "call", lose)

    with pytest.raises(Lost):
        own.call("PING")


@pytest.mark.django_db
def test_an_event_that_redis_refused_is_in_the_ledger(api_key, redis):
    (event,) = serve(api_key, calls=1)
    lines.lines.confirm()
    redis.set(stream.STREAM, "no stream")

    metering.record(event)
    lines.lines.confirm()

    assert UsageEvent.objects.get().id == event.id


@pytest.mark.django_db
def test_an_event_that_arrived_by_both_ways_is_one_event(api_key, drain):
    (event,) = serve(api_key, calls=1)

    metering.store_directly(event)
    drain.run_once()

    assert UsageEvent.objects.count() == 1


@pytest.mark.django_db
def test_an_event_that_neither_store_takes_is_kept_until_one_does(organization, monkeypatch):
    event = make_event(organization_id=organization.pk, at=organization.created_at)
    later = []
    monkeypatch.setattr(stream, "retry_later", later.append)
    with monkeypatch.context() as broken:
        broken.setattr(ledger, "store", fail)
        broken.setattr(stream, "deliver", lose)
        metering.store_directly(event)
        assert not metering.house()

    assert metering.house()
    assert UsageEvent.objects.get().id == event.id
    assert later == [metering.house]


def fail(events):
    raise OperationalError("the connection is lost")


def lose(event):
    raise Lost("gone")


@pytest.mark.django_db
def test_an_event_that_neither_store_takes_goes_to_the_stream_where_redis_is_back_first(
    organization, monkeypatch, drain
):
    event = make_event(organization_id=organization.pk, at=organization.created_at)
    with monkeypatch.context() as broken:
        broken.setattr(stream, "retry_later", lambda attempt: None)
        broken.setattr(ledger, "store", fail)
        metering.store_directly(event)
        assert metering.house()

    assert drain.run_once() == 1
    assert UsageEvent.objects.get().id == event.id


def test_an_attempt_is_repeated_until_it_succeeds(own, monkeypatch):
    monkeypatch.setattr(own, "wake", lambda: None)
    answers = [True, False, False]
    own.repeat(answers.pop)
    own.repeat(answers.pop)

    for left in (2, 1, 0):
        own.attempt()
        assert len(answers) == left
    assert own.attempts == []


def test_lines_may_be_opened_and_closed_for_as_long_as_the_process_runs(redis):
    for _ in range(300):
        Line().close()

    line = Line()
    assert line.call(("PING",)) == "PONG"
    line.close()


def test_what_fails_while_its_news_is_told_keeps_no_other_news_back(own, redis):
    told = []

    def fail():
        raise ValueError("nobody foresaw this")

    redis.set(KEY, "no list")
    own.send("RPUSH", KEY, 1, failed=fail)
    own.send("RPUSH", KEY, 2, failed=lambda: told.append("refused"))
    own.confirm()
    own.send("RPUSH", KEY, 3, failed=fail)
    own.send("RPUSH", KEY, 4, failed=lambda: told.append("lost"))
    own.idle[0].close()

    assert told == ["refused", "lost"]


def test_an_attempt_that_is_asked_for_while_it_runs_runs_again(own, monkeypatch):
    monkeypatch.setattr(own, "wake", lambda: None)
    runs = []

    def attempt():
        runs.append("run")
        if len(runs) == 1:
            own.repeat(attempt)
        return True

    own.repeat(attempt)
    own.attempt()
    own.attempt()

    assert len(runs) == 2
    assert own.attempts == []


@pytest.mark.django_db
def test_an_event_that_comes_while_another_is_housed_has_a_home_too(organization, monkeypatch):
    later = []
    monkeypatch.setattr(stream, "retry_later", later.append)
    first, second = (
        make_event(organization_id=organization.pk, at=organization.created_at) for _ in range(2)
    )
    metering.homeless[first.id] = first
    real = ledger.store

    def store(events):
        if events == [first]:
            metering.homeless[second.id] = second
        return real(events)

    monkeypatch.setattr(ledger, "store", store)
    while not metering.house():
        pass

    assert UsageEvent.objects.count() == 2


@pytest.mark.django_db
def test_an_event_that_no_store_can_ever_take_is_set_aside_and_stops_nobody(organization, redis):
    bad = make_event(organization_id=organization.pk, at=organization.created_at, endpoint="/nul\0")
    good = make_event(organization_id=organization.pk, at=organization.created_at)
    metering.store_directly(bad)
    metering.homeless.update({bad.id: bad, good.id: good})

    assert metering.house()
    assert UsageEvent.objects.get().id == good.id
    assert [fields["e"] for _, fields in redis.xrange(stream.REFUSED)] == [bad.encode()] * 2


@pytest.mark.django_db
def test_an_event_whose_storing_fails_in_an_unforeseen_way_is_kept_and_stops_nobody(organization):
    """As where something that hears of what is stored has a fault."""
    bad, good = (make_event(organization_id=organization.pk, at=organization.created_at) for _ in range(2))
    is_faulty = True

    def hear(event, **kwargs):
        if is_faulty and event.id == bad.id:
            raise KeyError("a fault")

    def hear_of_stored(**kwargs):
        if is_faulty:
            raise KeyError("a fault")

    events_stored.connect(hear_of_stored)
    event_delayed.connect(hear)
    try:
        metering.store_directly(bad)
        events_stored.disconnect(hear_of_stored)
        assert list(metering.homeless) == [bad.id]
        metering.homeless[good.id] = good

        assert not metering.house()
        assert UsageEvent.objects.get().id == good.id
        is_faulty = False
        assert metering.house()
    finally:
        events_stored.disconnect(hear_of_stored)
        event_delayed.disconnect(hear)
    assert UsageEvent.objects.count() == 2


@pytest.mark.django_db
def test_an_event_that_redis_refused_outlives_what_its_reader_undoes(
    organization, api_key, redis, monkeypatch
):
    """Its answer is read by whoever asks next, maybe in a transaction that fails for the same reason."""
    later = []
    monkeypatch.setattr(stream, "retry_later", later.append)
    redis.set(stream.STREAM, "no stream")
    metering.record(make_event(organization_id=organization.pk, at=organization.created_at))

    with transaction.atomic():
        stream.lines.confirm()
        transaction.set_rollback(True)
    redis.delete(stream.STREAM)
    assert later == [metering.house]
    metering.house()

    assert UsageEvent.objects.count() == 1
