"""Reservations when something goes wrong: a process dies at any step, Redis forgets, many settle at once.

In the first tests each step fails in turn: what was done before it stays, and nothing after it happens.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import connection
from redis.exceptions import ConnectionError as Lost

from accounts import clock
from apikeys import cache, reservations
from apikeys.gate import admit
from apikeys.reservation_settlement import settle
from apikeys.reservations import Hold
from apikeys.tasks import bill_unsettled
from billing.entitlements import lock_entitlement
from tests.apikeys.reserving import outcome, overdue, read, try_settling
from usage import stream
from usage.models import UsageEvent

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(*args, **kwargs):
    raise Killed


STEPS = {
    "before the claim": "apikeys.reservation_settlement.claim",
    "before the append": "apikeys.reservation_settlement.stream.deliver",
    "before the record goes": "apikeys.reservation_settlement.forget",
}


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("units", [0, 12, 40])
@pytest.mark.parametrize("then", ["retry", "sweep", "retry, sweep", "other values"])
def test_after_a_crash_at_any_step_there_is_one_outcome(server, monkeypatch, step, units, then):
    reserved = server.reserve(cost=40)
    with monkeypatch.context() as patch:
        patch.setattr(STEPS[step], kill)
        with suppress(Killed):
            settle(read(reserved), outcome(units))
    is_decided = step != "before the claim"
    with clock.standing_at(clock.now()) as hands:
        if then == "other values":
            other = server.finish(reserved, units=20, status=200)
            assert other.status_code == (409 if is_decided else 200)
            units = units if is_decided else 20
        elif "retry" in then:
            assert server.finish(reserved, units=units, status=200).json()["units"] == units
        elif not is_decided:
            units = 40
        hands.move(overdue(reserved))
        bill_unsettled()

    assert (server.used, server.billed) == (units, units)
    assert UsageEvent.objects.count() == bool(units)
    assert server.held == {}


@pytest.mark.parametrize("step", STEPS)
def test_after_a_crash_of_the_sweep_at_any_step_it_is_billed_once(server, monkeypatch, step):
    reserved = server.reserve(cost=40)
    with clock.standing_at(overdue(reserved)) as hands:
        with monkeypatch.context() as patch:
            patch.setattr(STEPS[step], kill)
            with pytest.raises(Killed):
                bill_unsettled()
        hands.move(overdue(reserved) + timedelta(minutes=1))
        bill_unsettled()

    assert (server.used, server.billed, server.held) == (40, 40, {})


def test_an_append_that_redis_does_not_take_goes_straight_to_postgresql(server, monkeypatch):
    def fail(event):
        raise Lost

    reserved = server.reserve()
    monkeypatch.setattr("apikeys.reservation_settlement.stream.deliver", fail)
    assert server.finish(reserved, units=12).status_code == 200

    assert [event.units for event in UsageEvent.objects.all()] == [12]


def test_a_lost_reservation_is_billed_by_its_settlement(server, redis, api_key):
    reserved = server.reserve(cost=40)
    redis.flushdb()
    assert admit(api_key.secret).used == 1

    assert server.finish(reserved, units=12).json()["units"] == 12
    assert server.used == 13
    assert server.finish(reserved, units=13).json()["code"] == "reservation_settled"
    assert (server.billed, server.held) == (12, {})


def test_a_lost_reservation_is_billed_with_no_counter_there_yet(server, redis, api_key):
    reserved = server.reserve(cost=40)
    redis.flushdb()
    server.finish(reserved, units=12)

    assert admit(api_key.secret).used == 13
    assert server.billed == 12


@pytest.mark.parametrize("is_drained", [True, False])
def test_what_was_settled_before_redis_lost_it_is_not_billed_again(server, redis, is_drained, api_key):
    reserved = server.reserve(cost=40)
    server.finish(reserved, units=12)
    if is_drained:
        assert server.billed == 12
        redis.flushdb()
    else:
        redis.delete(*redis.keys(f"*{server.organization.ref}*"))

    assert admit(api_key.secret).used == 13
    assert server.finish(reserved, units=12).json()["units"] == 12
    assert server.finish(reserved, units=40).json()["code"] == "reservation_settled"
    assert (server.used, server.billed) == (13, 12)


def test_long_after_the_deadline_a_reservation_that_nobody_knows_is_over(server, redis):
    reserved = server.reserve()
    redis.flushdb()
    with clock.standing_at(overdue(reserved) + timedelta(minutes=51)):
        response = server.finish(reserved, units=12)

    assert (response.json()["code"], response.json()["units"]) == ("reservation_expired", 0)
    assert server.billed == 0


@pytest.mark.parametrize("step", [None, *STEPS])
def test_a_counter_that_is_lost_alone_begins_with_what_is_reserved(server, redis, api_key, monkeypatch, step):
    server.finish(server.reserve(cost=5), units=3)
    server.reserve(cost=20)
    reserved = server.reserve(cost=40)
    if step:
        with monkeypatch.context() as patch:
            patch.setattr(STEPS[step], kill)
            with pytest.raises(Killed):
                settle(read(reserved), outcome(12))
    redis.delete(cache.names(server.organization.ref).used)

    expected = 3 + 20 + (12 if step and step != "before the claim" else 40)
    assert admit(api_key.secret).used == expected + 1


def test_what_is_given_back_while_the_counter_is_gone_is_not_counted(server, redis, api_key):
    reserved = server.reserve(cost=40)
    redis.delete(cache.names(server.organization.ref).used)
    server.finish(reserved, units=12)

    assert admit(api_key.secret).used == 13


def test_a_question_that_is_asked_twice_because_its_answer_was_lost_reserves_once(server, api_key):
    hold = Hold.of(endpoint="verify", method="")
    first, second = (admit(api_key.secret, cost=40, hold=hold) for _ in range(2))

    assert second.admitted
    assert first.reservation == second.reservation
    assert (second.used, second.period_end, second.at) == (40, first.period_end, first.at)
    assert (server.used, len(server.held)) == (40, 1)


def test_a_question_that_nobody_had_an_answer_to_is_taken_back(server, api_key):
    hold = Hold.of(endpoint="verify", method="")
    admit(api_key.secret, cost=40, hold=hold)
    until = clock.now() + timedelta(minutes=10)

    assert reservations.try_withdrawing(server.organization.ref, hold.id, until=until)
    assert (server.used, server.held) == (0, {})
    # Redis comes to it late.
    assert admit(api_key.secret, cost=40, hold=hold).reason == "gate_unavailable"
    assert (server.used, server.held) == (0, {})


def test_with_redis_out_of_reach_nothing_is_reserved_and_nothing_settled(server, own_redis):
    reserved = server.reserve()
    own_redis.stop()
    response = server.verify(cost=40, reserve=True)
    assert (response.status_code, response.json()["code"]) == (503, "gate_unavailable")
    response = server.finish(reserved, units=12)
    assert (response.status_code, response["Retry-After"]) == (503, "1")

    own_redis.start()
    assert server.finish(reserved, units=12).status_code == 200
    server.verify(cost=0)  # Who comes first after a restart fills the counter anew.
    assert (server.used, server.billed) == (12, 12)


def test_a_reservation_outlives_a_restart_of_redis(server, own_redis):
    reserved = server.reserve()
    own_redis.stop()
    own_redis.start()

    assert server.finish(reserved, units=12).status_code == 200
    server.verify(cost=0)
    assert (server.used, server.billed) == (12, 12)


@pytest.mark.django_db(transaction=True)
def test_ten_who_settle_at_once_with_different_values_and_one_wins(server, redis):
    for is_lost in (False, True):
        reserved = server.reserve(cost=40)
        before = server.used - 40, server.billed
        if is_lost:
            redis.delete(*reservations.names(server.organization.ref, read(reserved).id))
            redis.hincrby(cache.names(server.organization.ref).used, counter_of(read(reserved)), -40)
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(in_thread, range(10), [read(reserved)] * 10))

        (winner,) = [units for units, error in answers if error is None]
        assert {error.units for _, error in answers if error} == {winner}
        assert (server.used, server.billed) == (before[0] + winner, before[1] + winner)


def counter_of(reservation):
    return cache.counter(reservation.event.meter, reservation.event.period_start)


@pytest.mark.django_db(transaction=True)
def test_settlers_and_sweeps_at_once_agree(server):
    reserved = server.reserve(cost=40)
    with clock.standing_at(overdue(reserved)), ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(in_thread, 12, read(reserved)) for _ in range(5)]
        sweeps = [pool.submit(sweep_in_thread) for _ in range(5)]
        errors = [job.exception() for job in jobs]
        billed = sum(job.result() for job in sweeps)

    assert len({type(error) for error in errors}) == 1
    expected = 40 if billed else 12
    assert (server.used, server.billed) == (expected, expected)


def in_thread(units, reservation):
    try:
        return try_settling(reservation, outcome(units))
    finally:
        connection.close()


def sweep_in_thread():
    try:
        return bill_unsettled()
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_what_is_given_back_while_somebody_fills_the_counter_is_not_lost(server, api_key, redis, monkeypatch):
    reserved = server.reserve(cost=40)
    redis.delete(cache.names(server.organization.ref).used)
    backlog, is_waiting = stream.backlog, threading.Event()
    settler = threading.Thread(target=in_thread, args=(12, read(reserved)))

    def lock(organization):
        is_waiting.set()
        return lock_entitlement(organization)

    def read_and_let_settle(organization_id):
        """Settle just after the filler has seen all of it reserved, and nothing on the stream."""
        found = backlog(organization_id)
        settler.start()
        assert is_waiting.wait(60)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("apikeys.reservation_settlement.lock_entitlement", lock)
        patch.setattr("apikeys.cache.stream", SimpleNamespace(backlog=read_and_let_settle))
        admit(api_key.secret)
        settler.join()

    assert (server.used, server.billed) == (13, 12)
