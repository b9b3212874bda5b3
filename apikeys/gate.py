"""The gate: the one decision made before a call is served."""

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from django.db import InterfaceError, InternalError, OperationalError
from redis.exceptions import RedisError

from accounts import clock
from apikeys import cache, reservations, sightings, without_redis
from apikeys.addresses import address_digits
from apikeys.decision import AT, Decision, Verdict
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.reservations import Hold
from apikeys.scripts import Script
from apikeys.secret import ParsedSecret, parse
from usage.lines import Question
from usage.outage import outage

TRIES = 4
UNFILLED = {"cold", "stale"}
VERDICTS = {str(verdict): verdict for verdict in Verdict}
# A crowd that finds nothing takes one connection to PostgreSQL, not one each.
FILLING = [threading.Lock() for _ in range(64)]


DECIDE = Script("gate.lua")
# Carried out twice it would let more through than the quota, and the first only less.
GIVE_BACK = Script("give_back.lua", is_repeatable=False)


def admit(
    secret: str,
    *,
    meter: str = "requests",
    cost: int = 1,
    scopes: Sequence[str] = (),
    address: str = "",
    counted: bool = True,
    hold: Hold | None = None,
    now: datetime | None = None,
) -> Decision:
    """Decide about a call that costs `cost` units of `meter`, and charge them where it is admitted.

    `scopes` are what the call needs: a key that is restricted to others is refused. `address` is the caller's
    IP address; without one a key that is bound to networks is refused. Not `counted`, the call takes no place
    in the rates. `now` is the Redis server's own clock unless given or the process's stands, so that several
    web servers count by one clock.

    With a `hold` the units are charged as a reservation, which whoever asked settles later: `decision.reservation`
    is its record. Only Redis can make one: with it out of reach the verdict is UNAVAILABLE.
    """
    parsed = parse(secret)
    if parsed is None:
        return Decision(Verdict.INVALID_KEY)
    now = now or clock.find_standing()
    args = arguments(parsed, meter, cost, scopes, address, counted=counted, now=now)
    try:
        if not outage.is_on:
            try:
                return ask(parsed, meter=meter, cost=cost, hold=hold, args=args)
            except RedisError:
                outage.begin()
                if hold:
                    reservations.withdraw(parsed.ref, hold)
        if hold:
            return Decision(Verdict.UNAVAILABLE)
        return without_redis.decide(parsed, meter=meter, cost=cost, scopes=scopes, address=address, now=now)
    except (OperationalError, InterfaceError, InternalError):
        # Django's names for a PostgreSQL that does not answer, and for one that only reads.
        return Decision(Verdict.UNAVAILABLE)


class Asked(NamedTuple):
    """What the gate was asked about a call: the arguments of `admit`."""

    secret: str
    meter: str
    cost: int
    scopes: tuple[str, ...]
    address: str
    counted: bool


class Begun(NamedTuple):
    """A call that the gate is being asked about, while its request is on its way to the view."""

    asked: Asked
    parsed: ParsedSecret
    keys: list[str]
    args: list[str | int]
    question: Question


def begin(asked: Asked) -> Begun | None:
    """Ask about a call without waiting for the answer; None where that has to be done by `admit`."""
    parsed = parse(asked.secret)
    if parsed is None or outage.was_seen:
        return None
    now = clock.find_standing()
    args = arguments(
        parsed, asked.meter, asked.cost, asked.scopes, asked.address, counted=asked.counted, now=now
    )
    keys = keys_of(parsed)
    try:
        question = DECIDE.begin(keys, args)
    except RedisError:
        return None
    return Begun(asked, parsed, keys, args, question) if question else None


def finish(begun: Begun) -> Decision:
    """Return what the gate decided about a call that it was asked about by `begin`. Once."""
    asked = begun.asked
    try:
        answer = DECIDE.finish(begun.question, begun.keys, begun.args)
        return decide(begun.parsed, answer, begun.keys, begun.args, meter=asked.meter, cost=asked.cost)
    except RedisError:
        outage.begin()
    except (OperationalError, InterfaceError, InternalError):
        return Decision(Verdict.UNAVAILABLE)
    return admit(**asked._asdict())


def arguments(
    parsed: ParsedSecret,
    meter: str,
    cost: int,
    scopes: Sequence[str],
    address: str,
    *,
    counted: bool,
    now: datetime | None,
) -> list[str | int]:
    """Return the script's ARGV."""
    return [
        parsed.digest,
        meter,
        cost,
        to_microseconds(now) if now else "",
        " ".join(scopes) if scopes else "",
        address_digits(address) if address else "",
        "" if counted else "1",
    ]


def keys_of(parsed: ParsedSecret) -> list[str]:
    return [*cache.names(parsed.ref), cache.key_names(parsed.ref, parsed.digest).window]


def ask(parsed: ParsedSecret, *, meter: str, cost: int, hold: Hold | None, args: list[str | int]) -> Decision:
    """Let the script decide. Raises RedisError, or OperationalError where it wants PostgreSQL's word."""
    keys = keys_of(parsed)
    if outage.was_seen:
        without_redis.take_up()
        outage.end()
    if hold:
        reservations.announce(parsed.ref)
        keys += reservations.names(parsed.ref, hold.id)
        args = [*args, *hold.args]
    return decide(parsed, DECIDE.run(keys, args), keys, args, meter=meter, cost=cost)


def decide(
    parsed: ParsedSecret,
    answer: list[str],
    keys: list[str],
    args: list[str | int],
    *,
    meter: str,
    cost: int,
) -> Decision:
    """Return the decision in the script's answer, asked again where it wants PostgreSQL's word first."""
    if answer[0] in UNFILLED:
        answer = ask_again(parsed.ref, keys, args)
    verdict = VERDICTS[answer[0]]
    if verdict is Verdict.ADMITTED:
        sightings.note(parsed.ref, parsed.digest, address=str(args[5]), at=int(answer[AT]))
    return Decision(verdict, ref=parsed.ref, meter=meter, cost=cost, answer=answer)


def ask_again(ref: str, keys: Sequence[str], args: Sequence[str | int]) -> list[str]:
    """Return the script's answer once the copy it wants is there; filled by one thread, while others wait.

    Raises RedisError, or OperationalError where PostgreSQL does not answer.
    """
    with FILLING[hash(ref) % len(FILLING)]:
        # More than once, because somebody else may drop the copy in between.
        for _ in range(TRIES):
            answer: list[str] = DECIDE.run(keys, args)
            if answer[0] not in UNFILLED:
                return answer
            cache.fill(ref, now=from_microseconds(answer[1]))
    return [Verdict.UNAVAILABLE]


def give_back(decision: Decision, *, units: int | None = None, is_late: bool = False) -> None:
    """Return units of an admitted call to the quota's counter: all, unless told how many. Raises RedisError.

    `is_late` says that it was admitted LATE ago or longer (see `apikeys.drift`): then it is asked for with no units
    too, before the call's event is handed over, because they may have been taken off the counter meanwhile.
    """
    units = decision.cost if units is None else units
    return_units(
        decision.ref,
        counter=cache.counter(decision.meter, decision.period_start, livemode=decision.livemode),
        units=units,
        came_to=decision.cost - units,
        born=decision.born,
        admitted=decision.answer[AT],
        is_late=is_late,
        taken_up=cache.taken_up(decision.uncounted_id, decision.period_start)
        if decision.uncounted_id
        else "",
    )


def return_units(
    ref: str,
    *,
    counter: str,
    units: int,
    came_to: int,
    born: str,
    admitted: str | int,
    is_late: bool,
    taken_up: str = "",
) -> None:
    """Raises RedisError."""
    args: list[str | int] = [counter, units, came_to, born, admitted, "late" if is_late else "", taken_up]
    GIVE_BACK.run([cache.names(ref).used], args)
