"""Steps that several tests of drift share: calls that end and do not, and the looks at their counter."""

from datetime import UTC, datetime, timedelta
from typing import Any

from accounts import clock
from apikeys import drift, without_redis
from apikeys.calls import Call, settle
from apikeys.decision import Decision
from apikeys.gate import admit
from apikeys.reservations import Hold, Reservation
from apikeys.secret import parse
from usage.models import UsageEvent
from usage.stream import Drain

NOON = datetime.now(UTC).replace(day=15, hour=12, minute=20, second=0, microsecond=0)


def call(api_key: Any, *, cost: int = 1) -> Decision:
    decision = admit(api_key.secret, cost=cost)
    assert decision.admitted, decision.reason
    return decision


def end(
    decision: Decision, *, units: int | None = None, status: int = 200, after: timedelta = timedelta()
) -> None:
    served = Call(decision)
    served.units = units
    milliseconds = after // timedelta(milliseconds=1)
    settle(served, status=status, endpoint="/echo", method="GET", response_ms=milliseconds)


def serve(api_key: Any, *, calls: int) -> None:
    for _ in range(calls):
        end(call(api_key))


def reserve(api_key: Any, *, cost: int) -> Reservation:
    decision = admit(api_key.secret, cost=cost, hold=Hold.of(endpoint="verify", method=""))
    return Reservation.read(decision.ref, decision.reservation)


def let_in_by_postgresql(api_key: Any, *, cost: int, now: datetime) -> Decision:
    parsed = parse(api_key.secret)
    return without_redis.decide(parsed, meter="requests", cost=cost, scopes=(), address="", now=now)


def drain() -> None:
    while Drain(consumer="drift").run_once():
        pass


def look_twice(hands: Any, *, first: timedelta = timedelta(seconds=1)) -> Any:
    """Measure now and after the time that calls may take; return what the second look did."""
    hands.move(clock.now() + first)
    drift.measure()
    drain()
    hands.move(clock.now() + drift.GRACE)
    return drift.measure()


def in_ledger() -> int:
    drain()
    return sum(UsageEvent.objects.values_list("units", flat=True))
