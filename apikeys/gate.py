"""The gate: the one decision made before a call is served."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from django.db import InterfaceError, OperationalError
from redis.commands.core import Script
from redis.exceptions import RedisError

from accounts import clock
from apikeys import cache as gate_cache
from apikeys.addresses import address_digits
from apikeys.decision import Decision, Verdict
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.secret import parse
from usage.redis_client import get_redis

HERE = Path(__file__).parent


@cache
def load_script(name: str) -> Script:
    return get_redis().register_script((HERE / name).read_text())


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
    ref, digest = parsed.ref, parsed.digest
    now = now or clock.find_standing()
    keys = [*gate_cache.names(ref), *gate_cache.key_names(ref, digest)]
    arguments: list[str | int] = [
        digest,
        meter,
        cost,
        to_microseconds(now) if now else "",
        " ".join(scopes),
        address_digits(address) if address else "",
        "" if counted else "1",
    ]
    try:
        # Twice, because a cold or stale answer is filled from PostgreSQL and asked again; once more
        # where somebody else dropped it in between.
        for _ in range(3):
            answer = load_script("gate.lua")(keys=keys, args=arguments)
            if answer[0] not in {"cold", "stale"}:
                return Decision(Verdict(answer[0]), ref=ref, meter=meter, cost=cost, answer=answer)
            gate_cache.fill(ref, now=from_microseconds(answer[1]))
    except (RedisError, OperationalError, InterfaceError):
        # Django's two names for a PostgreSQL that does not answer.
        return Decision(Verdict.UNAVAILABLE)
    return Decision(Verdict.UNAVAILABLE)


def give_back(decision: Decision, *, units: int | None = None) -> None:
    """Return units of an admitted call to the quota: all, unless told how many. Raises RedisError."""
    field = gate_cache.counter(decision.meter, decision.period_start, livemode=decision.livemode)
    units = decision.cost if units is None else units
    load_script("give_back.lua")(keys=[gate_cache.names(decision.ref).used], args=[field, units])
