"""The gate: the one decision made before a call is served."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from uuid import UUID

from django.db import InterfaceError, OperationalError
from redis.commands.core import Script
from redis.exceptions import RedisError

from accounts import clock
from apikeys import cache as gate_cache
from apikeys.instants import from_microseconds, to_microseconds
from apikeys.secret import parse
from usage.redis_client import get_redis

HERE = Path(__file__).parent


class Verdict(StrEnum):
    ADMITTED = "admitted"
    INVALID_KEY = "invalid_key"
    SUSPENDED = "suspended"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    UNAVAILABLE = "gate_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate decided about one call, and the state of each limit just after.

    `rate_limit` is calls in any 60 seconds and `quota` units a period; None is unlimited. `wait` is how
    long until more is allowed by the policy that refused, or, admitted, until the window has room again.
    A refusal for the key's sake knows nothing else.
    """

    verdict: Verdict
    meter: str = ""
    cost: int = 0
    at: datetime | None = None
    api_key_id: UUID | None = None
    organization_id: UUID | None = None
    ref: str = ""
    rate_limit: int | None = None
    rate_remaining: int = 0
    wait: timedelta = timedelta()
    quota: int | None = None
    used: int = 0
    period_start: datetime | None = None
    period_end: datetime | None = None

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMITTED

    @property
    def reason(self) -> str:
        return str(self.verdict)

    @property
    def quota_remaining(self) -> int | None:
        return None if self.quota is None else max(self.quota - self.used, 0)


class UnknownMeter(Exception):
    """A view charges a meter that the organization's plan has no quota for: a mistake of the operator's."""


@cache
def load_script(name: str) -> Script:
    return get_redis().register_script((HERE / name).read_text())


def admit(secret: str, *, meter: str = "requests", cost: int = 1, now: datetime | None = None) -> Decision:
    """Decide about a call that costs `cost` units of `meter`, and charge them where it is admitted.

    `now` is the Redis server's own clock unless given or the process's stands, so that several web servers
    count by one clock.
    Raises UnknownMeter.
    """
    parsed = parse(secret)
    if parsed is None:
        return Decision(verdict=Verdict.INVALID_KEY)
    keys = gate_cache.names(parsed.ref)
    now = now or clock.find_standing()
    moment = str(to_microseconds(now)) if now else ""
    try:
        # Twice, because a cold or stale answer is filled from PostgreSQL and asked again; once more
        # where somebody else dropped it in between.
        for _ in range(3):
            answer = load_script("gate.lua")(keys=list(keys), args=[parsed.digest, meter, cost, moment])
            if answer[0] not in {"cold", "stale"}:
                return to_decision(answer, ref=parsed.ref, meter=meter, cost=cost)
            gate_cache.fill(parsed.ref, now=from_microseconds(answer[1]))
    except (RedisError, OperationalError, InterfaceError):
        # Django's two names for a PostgreSQL that does not answer.
        return Decision(verdict=Verdict.UNAVAILABLE)
    return Decision(verdict=Verdict.UNAVAILABLE)


def to_decision(answer: list[str], *, ref: str, meter: str, cost: int) -> Decision:
    verdict = answer[0]
    if verdict == "unknown_key":
        return Decision(verdict=Verdict.INVALID_KEY)
    if verdict == "unknown_meter":
        raise UnknownMeter(f"The plan of organization {ref} has no quota for the meter {meter!r}.")
    _, at, key, organization, rate, left, wait, quota, used, period_start, period_end = answer
    return Decision(
        verdict=Verdict(verdict),
        meter=meter,
        cost=cost,
        at=from_microseconds(at),
        api_key_id=UUID(key),
        organization_id=UUID(organization),
        ref=ref,
        rate_limit=int(rate) if rate else None,
        rate_remaining=int(left),
        wait=timedelta(microseconds=int(wait)),
        quota=int(quota) if quota else None,
        used=int(used),
        period_start=from_microseconds(period_start),
        period_end=from_microseconds(period_end),
    )


def give_back(decision: Decision) -> None:
    """Return the units of an admitted call that was not served. Raises RedisError."""
    assert decision.period_start is not None  # noqa: S101  # Every admitted decision has one.
    field = gate_cache.counter(decision.meter, decision.period_start)
    load_script("give_back.lua")(keys=[gate_cache.names(decision.ref).used], args=[field, decision.cost])
