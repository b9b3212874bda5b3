"""The gate: the one decision made before a call is served."""

import hashlib
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from accounts import clock
from apikeys import cache, without_redis
from apikeys.addresses import address_digits
from apikeys.decision import Decision, Verdict
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.secret import ParsedSecret, parse
from usage.lines import run_script
from usage.outage import outage

HERE = Path(__file__).parent
TRIES = 4
UNFILLED = {"cold", "stale"}
# A crowd that finds nothing takes one connection to PostgreSQL, not one each.
FILLING = [threading.Lock() for _ in range(64)]


class Script:
    """A Lua script of this directory."""

    def __init__(self, name: str, *, is_repeatable: bool = True) -> None:
        self.is_repeatable = is_repeatable
        self.text = (HERE / name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Raises redis.exceptions.RedisError."""
        return run_script(self.text, self.sha, keys=keys, args=args, is_repeatable=self.is_repeatable)


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
    now: datetime | None = None,
) -> Decision:
    """Decide about a call that costs `cost` units of `meter`, and charge them where it is admitted.

    `scopes` are what the call needs: a key that is restricted to others is refused. `address` is the caller's
    IP address; without one a key that is bound to networks is refused. Not `counted`, the call takes no place
    in the rates. `now` is the Redis server's own clock unless given or the process's stands, so that several
    web servers count by one clock.
    """
    parsed = parse(secret)
    if parsed is None:
        return Decision(Verdict.INVALID_KEY)
    now = now or clock.find_standing()
    try:
        if not outage.is_on:
            try:
                return ask(
                    parsed,
                    meter=meter,
                    cost=cost,
                    args=[
                        parsed.digest,
                        meter,
                        cost,
                        to_microseconds(now) if now else "",
                        " ".join(scopes) if scopes else "",
                        address_digits(address) if address else "",
                        "" if counted else "1",
                    ],
                )
            except RedisError:
                outage.begin()
        return without_redis.decide(parsed, meter=meter, cost=cost, scopes=scopes, address=address, now=now)
    except (OperationalError, InterfaceError):
        # Django's two names for a PostgreSQL that does not answer.
        return Decision(Verdict.UNAVAILABLE)


def ask(parsed: ParsedSecret, *, meter: str, cost: int, args: Sequence[str | int]) -> Decision:
    """Let the script decide. Raises RedisError, or OperationalError where it wants PostgreSQL's word."""
    ref = parsed.ref
    keys = [*cache.names(ref), *cache.key_names(ref, parsed.digest)]
    if outage.was_seen:
        without_redis.take_up()
        outage.end()
    answer = DECIDE.run(keys, args)
    if answer[0] in UNFILLED:
        answer = ask_again(ref, keys, args)
    return Decision(Verdict(answer[0]), ref=ref, meter=meter, cost=cost, answer=answer)


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


def give_back(decision: Decision, *, units: int | None = None) -> None:
    """Return units of an admitted call to the quota's counter: all, unless told how many. Raises RedisError."""
    field = cache.counter(decision.meter, decision.period_start, livemode=decision.livemode)
    units = decision.cost if units is None else units
    GIVE_BACK.run([cache.names(decision.ref).used], [field, units, decision.cost - units, decision.born])
