"""What the gate decided about one call."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from apikeys.instants import from_microseconds

MINUTE = 60


class Verdict(StrEnum):
    ADMITTED = "admitted"
    INVALID_KEY = "invalid_key"
    EXPIRED_KEY = "expired_key"
    ADDRESS_REFUSED = "address_not_allowed"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    NOT_IN_PLAN = "not_in_plan"
    SUSPENDED = "suspended"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    SPEND_CAP_REACHED = "spend_cap_reached"
    UNAVAILABLE = "gate_unavailable"


class Limit(NamedTuple):
    """One policy, as it stands after the decision. `limit` and `remaining` are calls, of the period units.

    `window` is in seconds, as the policy counts. `reset` is in seconds until more is allowed: after a refusal
    until the same call would be let through by this policy.
    """

    policy: str  # burst, minute, key, period or spend_cap
    limit: int
    window: int
    remaining: int
    reset: float


class Decision:
    """What the gate decided about one call, and how each limit stands just after.

    A refusal for the key's sake knows the organization where the key is one of its keys, and no limits. `answer`
    is the gate script's; most calls need only a part of it, so the rest is worked out when it is asked for.
    """

    def __init__(
        self,
        verdict: Verdict,
        *,
        ref: str = "",
        meter: str = "",
        cost: int = 0,
        answer: Sequence[str] = (),
        is_degraded: bool = False,
        uncounted_id: int | None = None,
    ) -> None:
        self.verdict = verdict
        self.ref = ref
        self.meter = meter
        self.cost = cost
        self.is_degraded = is_degraded  # Decided by PostgreSQL, with Redis out of reach: no rate is known.
        self.uncounted_id = uncounted_id  # Then, of the row that holds the units.
        self._answer = answer

    def __repr__(self) -> str:
        return f"<Decision {self.verdict} {self.ref} {self.cost} {self.meter}>"

    @property
    def admitted(self) -> bool:
        return self.verdict is Verdict.ADMITTED

    @property
    def reason(self) -> str:
        return str(self.verdict)

    @property
    def answer(self) -> Sequence[str]:
        """The gate script's answer as it came, for what runs at every call: see the names of its places below."""
        return self._answer

    @property
    def is_known(self) -> bool:
        """Whether the key is one of the organization's; only then the properties below have an answer."""
        return len(self._answer) > MODE

    @cached_property
    def at(self) -> datetime:
        return from_microseconds(self._answer[AT])

    @cached_property
    def api_key_id(self) -> UUID:
        return UUID(self._answer[KEY])

    @cached_property
    def organization_id(self) -> UUID:
        return UUID(self._answer[ORGANIZATION])

    @property
    def livemode(self) -> bool:
        """Whether the key is a live one. What a test key calls for is never billed."""
        return self._answer[MODE] == "live"

    @property
    def is_billable(self) -> bool:
        """Whether the call, once served, belongs in the ledger."""
        return self.admitted and self.cost > 0 and self.livemode

    @property
    def policy(self) -> str:
        """The policy that refused, by its name in `limits`; empty where none did."""
        return self._answer[POLICY] if self.has_limits else ""

    @property
    def wait(self) -> timedelta:
        """How long until the policy that refused would let the same call through; nothing where none did."""
        return timedelta(microseconds=int(self._answer[WAIT])) if self.has_limits else timedelta()

    @property
    def has_limits(self) -> bool:
        """Whether it got as far as the limits; only then the properties below have an answer."""
        return len(self._answer) > POLICY

    @property
    def used(self) -> int:
        """Units of `meter` used this period, with this call's."""
        return int(self._answer[USED])

    @property
    def quota(self) -> int | None:
        """Units that may be used this period. None: no end, or more is billed."""
        quota = self._answer[QUOTA]
        return int(quota) if quota else None

    @property
    def quota_remaining(self) -> int | None:
        return None if self.quota is None else max(self.quota - self.used, 0)

    @property
    def rate_limit(self) -> int | None:
        """Calls of the organization in any 60 seconds. None: unlimited."""
        rate = self._answer[RATE]
        return int(rate) if rate else None

    @property
    def rate_remaining(self) -> int:
        return int(self._answer[RATE + 1])

    @cached_property
    def period_start(self) -> datetime:
        return from_microseconds(self._answer[PERIOD_START])

    @cached_property
    def period_end(self) -> datetime:
        return from_microseconds(self._answer[PERIOD_END])

    @property
    def reservation(self) -> str:
        """The record of the reservation that was made; empty where none was."""
        return self._answer[RESERVATION] if len(self._answer) > RESERVATION else ""

    @property
    def born(self) -> str:
        """Which of the counters that may have stood there one after the other was charged; empty: not known."""
        return self._answer[BORN] if len(self._answer) > BORN else ""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Every policy that holds for the call, the shortest window first; empty where none is known."""
        if not self.has_limits:
            return ()
        answer, found = self._answer, []
        for policy, field in CALLS:
            if answer[field]:
                reset = int(answer[field + 2]) / 1_000_000
                found.append(Limit(policy, int(answer[field]), MINUTE, int(answer[field + 1]), reset))
        for policy, field in UNITS:
            if answer[field]:
                limit, now = int(answer[field]), int(answer[AT])
                start, end = int(answer[PERIOD_START]), int(answer[PERIOD_END])
                left = max(limit - self.used, 0)
                found.append(Limit(policy, limit, (end - start) // 1_000_000, left, (end - now) / 1_000_000))
        return tuple(found)

    @property
    def runs_out_at(self) -> datetime | None:
        """When the period's units will be gone, used as fast as so far; None where they last until its end.

        A straight line from the period's start: used / elapsed, laid against what is left.
        """
        ends = [limit.limit for limit in self.limits if limit.policy in {"period", "spend_cap"}]
        if not ends or not self.used:
            return None
        end, now, start = min(ends), int(self._answer[AT]), int(self._answer[PERIOD_START])
        if self.used >= end:
            return self.at
        # In whole microseconds: a large quota hardly touched lasts longer than a datetime reaches.
        moment = now + (now - start) * (end - self.used) // self.used
        return from_microseconds(moment) if moment < int(self._answer[PERIOD_END]) else None


# Where the gate script's answer has what: see gate.lua.
AT, KEY, ORGANIZATION, MODE, POLICY, WAIT = 1, 2, 3, 4, 5, 6
RATE, BURST, CAP = 7, 10, 13  # Each followed by what remains, and by the microseconds until more does.
QUOTA, SPEND_CAP, USED, PERIOD_START, PERIOD_END, BORN, RESERVATION = 16, 17, 18, 19, 20, 21, 22
CALLS = (("burst", BURST), ("minute", RATE), ("key", CAP))
UNITS = (("period", QUOTA), ("spend_cap", SPEND_CAP))
