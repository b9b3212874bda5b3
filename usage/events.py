"""A usage event on its way from the call that was served to the ledger."""

import json
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HEX = 16
SEPARATOR = "|"
FIELDS = 11
LONG = 32  # An id has so many digits or more; no response time has.
# What PostgreSQL's bigint, integer and smallint hold.
MOST_UNITS, MOST, MOST_STATUS = 2**63 - 1, 2**31 - 1, 2**15 - 1


class Event:
    """One billable response. `occurred_at` lies in the quota period that began at `period_start`.

    It is kept as its entry in the stream says it, because most events are only written there by the process
    that made them: ids in hexadecimal, times in whole microseconds since 1970. The rest is worked out when it is
    asked for.
    """

    __slots__ = (
        "_api_key",
        "_id",
        "_occurred",
        "_organization",
        "_period",
        "endpoint",
        "meter",
        "method",
        "response_ms",
        "status",
        "units",
    )

    def __init__(
        self,
        *,
        id: UUID,
        occurred_at: datetime,
        organization_id: UUID,
        api_key_id: UUID,
        meter: str,
        units: int,
        period_start: datetime,
        endpoint: str,
        method: str,
        status: int,
        response_ms: int,
    ) -> None:
        self._id = id.hex
        self._occurred = (occurred_at - EPOCH) // MICROSECOND
        self._organization = organization_id.hex
        self._api_key = api_key_id.hex
        self.meter = meter
        self.units = units
        self._period = (period_start - EPOCH) // MICROSECOND
        self.endpoint = endpoint
        self.method = method
        self.status = status
        self.response_ms = response_ms

    @classmethod
    def of_call(
        cls,
        *,
        occurred: int,
        organization: str,
        api_key: str,
        meter: str,
        units: int,
        period: int,
        endpoint: str,
        method: str,
        status: int,
        response_ms: int,
    ) -> "Event":
        """Return a new event of a call as the gate knows it: times in microseconds, ids as text.

        What a client can make up, the method and the endpoint, is cut to what the ledger takes.
        """
        event = cls.__new__(cls)
        event._id = id_at(occurred // 1000)
        event._occurred = occurred
        event._organization = organization.replace("-", "")
        event._api_key = api_key.replace("-", "")
        event.meter = meter
        event.units = units
        event._period = period
        event.endpoint = endpoint[:200]
        event.method = method[:10] if method.isalpha() and method.isascii() else "OTHER" if method else ""
        event.status = status
        event.response_ms = response_ms
        return event

    @property
    def id(self) -> UUID:
        return UUID(self._id)

    @property
    def occurred_at(self) -> datetime:
        return EPOCH + self._occurred * MICROSECOND

    @property
    def organization_id(self) -> UUID:
        return UUID(self._organization)

    @property
    def api_key_id(self) -> UUID:
        return UUID(self._api_key)

    @property
    def period_start(self) -> datetime:
        return EPOCH + self._period * MICROSECOND

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<Event {self.encode()}>"

    def encode(self) -> str:
        # First what no two events share: the drain then takes all the rest at once (see `usage.batches`). The
        # endpoint comes last: it alone may hold the separator.
        return (
            f"{self._id}|{self._occurred}|{self.response_ms}|{self._organization}|{self._api_key}|{self.meter}|"
            f"{self.units}|{self._period}|{self.method}|{self.status}|{self.endpoint}"
        )

    @classmethod
    def decode(cls, text: str) -> "Event":
        """Return the event that `encode` made `text` of, in this release or the last.

        Raises ValueError where it is none.
        """
        try:
            event = cls.from_json(text) if text[:1] == "[" else cls.from_fields(text)
        except (TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
            raise ValueError(f"Not a usage event: {text[:200]!r}") from error
        fits = 0 <= event.units <= MOST_UNITS and 0 <= event.status <= MOST_STATUS
        if not fits or not -MOST <= event.response_ms <= MOST:
            raise ValueError(f"Not a usage event: {text[:200]!r}")
        return event

    @classmethod
    def from_fields(cls, text: str) -> "Event":
        fields = text.split(SEPARATOR, FIELDS - 1)
        if len(fields[2]) >= LONG:
            # As the gate writes what it reserves: with the response time where it is not yet known, before the end.
            fields.insert(2, fields.pop(9))
        id_, occurred, ms, organization, api_key, meter, units, period, method, status, endpoint = fields
        return cls(
            id=UUID(id_),
            occurred_at=EPOCH + int(occurred) * MICROSECOND,
            organization_id=UUID(organization),
            api_key_id=UUID(api_key),
            meter=meter,
            units=int(units),
            period_start=EPOCH + int(period) * MICROSECOND,
            endpoint=endpoint,
            method=method,
            status=int(status),
            response_ms=int(ms),
        )

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """What was written up to release 0.1 and may still be on its way: a JSON list, its times in ISO 8601."""
        id_, occurred_at, organization, api_key, meter, units, period, endpoint, method, status, ms = (
            json.loads(text)
        )
        # A time without a zone names no moment: taking EPOCH off it is a TypeError.
        return cls(
            id=UUID(id_),
            occurred_at=datetime.fromisoformat(occurred_at),
            organization_id=UUID(organization),
            api_key_id=UUID(api_key),
            meter=str(meter),
            units=int(units),
            period_start=datetime.fromisoformat(period),
            endpoint=str(endpoint),
            method=str(method),
            status=int(status),
            response_ms=int(ms),
        )


def uuid7(moment: datetime) -> UUID:
    """Return a UUIDv7 (RFC 9562, 5.7) of `moment`: sorts by time to the millisecond, random in the rest."""
    return UUID(id_at((moment - EPOCH) // timedelta(milliseconds=1)))


def id_at(milliseconds: int) -> str:
    """Return a UUIDv7 of a moment in milliseconds since 1970, as 32 hexadecimal digits."""
    # 48 bits of time; the version, 7, and 12 random bits; the variant, 10, and 62 random bits.
    random = os.urandom(10).hex()
    return f"{milliseconds:012x}7{random[:3]}{VARIANTS[random[3]]}{random[4:19]}"


VARIANTS = {digit: f"{0b1000 | int(digit, HEX) & 0b0011:x}" for digit in "0123456789abcdef"}
