"""Steps that several tests of usage share."""

from datetime import datetime, timedelta
from types import SimpleNamespace
from uuid import UUID

from apikeys.gate import admit
from usage.events import Event, uuid7
from usage.metering import record

SOME_KEY = UUID(int=1)


def serve(
    api_key: SimpleNamespace, *, calls: int, status: int = 200, now: datetime | None = None
) -> list[Event]:
    """Let calls through the gate and hand each to the stream, as the middleware does."""
    events = []
    for number in range(calls):
        decision = admit(api_key.secret, now=now + timedelta(minutes=number) if now else None)
        assert decision.admitted, decision.reason
        event = Event(
            id=uuid7(decision.at),
            occurred_at=decision.at,
            organization_id=decision.organization_id,
            api_key_id=decision.api_key_id,
            meter=decision.meter,
            units=decision.cost,
            period_start=decision.period_start,
            endpoint="/api/v1/echo",
            method="GET",
            status=status,
            response_ms=5,
        )
        record(event)
        events.append(event)
    return events


def make_event(
    *,
    organization_id: UUID,
    at: datetime,
    units: int = 1,
    status: int = 200,
    period_start: datetime | None = None,
    api_key_id: UUID = SOME_KEY,
    endpoint: str = "/api/v1/echo",
    meter: str = "requests",
) -> Event:
    return Event(
        id=uuid7(at),
        occurred_at=at,
        organization_id=organization_id,
        api_key_id=api_key_id,
        meter=meter,
        units=units,
        period_start=period_start or at.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        endpoint=endpoint,
        method="GET",
        status=status,
        response_ms=5,
    )
