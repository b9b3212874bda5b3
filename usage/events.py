"""A usage event on its way from the call that was served to the ledger."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One billable response. `occurred_at` lies in the quota period that began at `period_start`."""

    id: UUID
    occurred_at: datetime
    organization_id: UUID
    api_key_id: UUID
    meter: str
    units: int
    period_start: datetime
    endpoint: str
    method: str
    status: int
    response_ms: int

    def encode(self) -> str:
        return json.dumps(
            [
                self.id.hex,
                self.occurred_at.isoformat(),
                self.organization_id.hex,
                self.api_key_id.hex,
                self.meter,
                self.units,
                self.period_start.isoformat(),
                self.endpoint,
                self.method,
                self.status,
                self.response_ms,
            ],
            separators=(",", ":"),
        )

    @classmethod
    def decode(cls, text: str) -> "Event":
        """Raises ValueError where `text` is not what `encode` makes."""
        try:
            (
                id_,
                occurred_at,
                organization_id,
                api_key_id,
                meter,
                units,
                period_start,
                endpoint,
                method,
                status,
                ms,
            ) = json.loads(text)
            event = cls(
                id=UUID(id_),
                occurred_at=datetime.fromisoformat(occurred_at),
                organization_id=UUID(organization_id),
                api_key_id=UUID(api_key_id),
                meter=str(meter),
                units=int(units),
                period_start=datetime.fromisoformat(period_start),
                endpoint=str(endpoint),
                method=str(method),
                status=int(status),
                response_ms=int(ms),
            )
        except (TypeError, AttributeError) as error:
            raise ValueError(f"Not a usage event: {text[:200]!r}") from error
        if event.occurred_at.tzinfo is None or event.period_start.tzinfo is None or event.units < 0:
            raise ValueError(f"Not a usage event: {text[:200]!r}")
        return event


def uuid7(moment: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562, 5.7) of `moment`: sorts by time to the millisecond, random in the rest."""
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    random = int.from_bytes(os.urandom(10))
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62
    return UUID(int=value | random & (1 << 62) - 1)
