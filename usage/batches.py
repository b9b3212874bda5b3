"""Entries of the stream as rows of PostgreSQL's binary COPY and as sums by the hour, with no object for an event.

An event's own are its id, its moment and its response time. All that follows in its entry it shares with many
others: that is worked out once, for as long as this process lives.
"""

import struct
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

from usage.events import EPOCH, MICROSECOND
from usage.latency import SHIFT, bucket

# PostgreSQL counts its microseconds from 2000 on.
POSTGRES_EPOCH = 946_684_800_000_000
HOUR = 3_600_000_000
BEGINNING = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
# The columns of a row, and of a sum, in the order they are written in here.
ROW = "id, occurred_at, response_ms, organization_id, api_key_id, meter, units, period_start, method, status, endpoint"
SUM = "units, calls, response_ms, latency, hour, organization_id, meter, period_start, api_key_id, endpoint, status"
OWN = struct.Struct(">hi16siqii")
SUMMED = struct.Struct(">hiqiqiq")
INT8 = 20  # PostgreSQL's number of the type.
MOST_KINDS = 100_000


class Kind:
    """What many events share: bytes of the row after an event's own, and those by which its rollup is found."""

    __slots__ = ("api_key", "rollup", "row", "units")

    def __init__(self, rest: bytes) -> None:
        """Raises ValueError or struct.error for what the ledger cannot take, and for other spellings of an id."""
        organization, api_key, meter, units, period, method, status, endpoint = rest.decode().split("|", 7)
        if len(organization) != 32 or len(api_key) != 32 or "\0" in endpoint or "\0" in meter + method:
            raise ValueError("It takes more to read this one.")
        is_short = len(meter) <= 40 and len(method) <= 10 and len(endpoint) <= 200
        if not is_short or int(units) < 0 or int(status) < 0 or int(period) < 0:
            raise ValueError("The ledger does not take this one.")
        self.api_key = UUID(api_key)
        self.units = int(units)
        whose, key = field(unhexlify(organization)), field(unhexlify(api_key))
        start = struct.pack(">iq", 8, int(period) - POSTGRES_EPOCH)
        answer = struct.pack(">ih", 2, int(status))
        path, what = field(endpoint.encode()), field(meter.encode())
        self.row = (
            whose
            + key
            + what
            + struct.pack(">iq", 8, self.units)
            + start
            + field(method.encode())
            + answer
            + path
        )
        self.rollup = whose + what + start + key + path + answer


def field(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


kinds: dict[bytes, Kind] = {}


def kind_of(rest: bytes) -> Kind:
    kind = kinds.get(rest)
    if kind is None:
        if len(kinds) >= MOST_KINDS:
            kinds.clear()
        kind = kinds[rest] = Kind(rest)
    return kind


class Calls:
    """The calls of one kind in one hour."""

    __slots__ = ("kind", "last", "row", "times")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.row = kind.row
        self.times: list[int] = []
        self.last = 0


class Batch:
    """Events that are stored together. Its moments lie from `start` on and before `end`, in microseconds since 1970.

    `odd` holds the entries that are not among them: of other moments, in an older form, or no events at all.
    """

    def __init__(self, *, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.hours: dict[int, dict[bytes, Calls]] = {}
        self.odd: list[bytes] = []
        self.size = 0

    def add(self, entries: Iterable[bytes]) -> bytes:
        """Count these entries in, and return their rows."""
        rows: list[bytes] = []
        begins = ends = 0
        hour: dict[bytes, Calls] = {}
        pack, row = OWN.pack, rows.append
        for entry in entries:
            try:
                id_, occurred, ms, rest = entry.split(b"|", 3)
                moment, took = int(occurred), int(ms)
                if not begins <= moment < ends:
                    if not self.start <= moment < self.end:
                        raise ValueError("Its month may lack a partition.")
                    begins = moment - moment % HOUR
                    ends = begins + HOUR
                    hour = self.hours.setdefault(begins, {})
                calls = hour.get(rest)
                if calls is None:
                    calls = hour[rest] = Calls(kind_of(rest))
                if len(id_) != 32:
                    raise ValueError("It takes more to read this one.")
                own = pack(11, 16, unhexlify(id_), 8, moment - POSTGRES_EPOCH, 4, took)
            except (ValueError, struct.error):
                self.odd.append(entry)
                continue
            row(own + calls.row)
            calls.times.append(took)
            if moment > calls.last:  # noqa: PLR1730  # A call of max() costs as much as a tenth of all this.
                calls.last = moment
        self.size += len(rows)
        return b"".join(rows)

    def sums(self) -> Iterator[bytes]:
        """Yield the rows of what the events add to the rollups. Raises struct.error where a sum is too large."""
        for hour, by_rest in self.hours.items():
            added: dict[bytes, tuple[int, list[int]]] = {}
            for calls in by_rest.values():
                kind, times = calls.kind, calls.times
                known = added.get(kind.rollup)
                units = kind.units * len(times)
                added[kind.rollup] = (known[0] + units, known[1] + times) if known else (units, times)
            when = struct.pack(">iq", 8, hour - POSTGRES_EPOCH)
            for rollup, (units, times) in added.items():
                if times:
                    head = SUMMED.pack(11, 8, units, 8, len(times), 8, sum(times))
                    yield b"".join((head, array(histogram(times)), when, rollup))

    def last_served(self) -> dict[UUID, datetime]:
        """Return when the latest of the events of each API key was served."""
        latest: dict[UUID, int] = {}
        for by_rest in self.hours.values():
            for calls in by_rest.values():
                key = calls.kind.api_key
                if calls.last > latest.get(key, 0):
                    latest[key] = calls.last
        return {key: EPOCH + moment * MICROSECOND for key, moment in latest.items()}


def histogram(times: list[int]) -> list[int]:
    """Return calls by response time, as `usage.latency` has them."""
    counts: dict[int, int] = {}
    for ms in times:
        number = BUCKETS[ms]
        counts[number] = counts.get(number, 0) + 1
    return [number << SHIFT | calls for number, calls in counts.items()]


class Buckets(dict[int, int]):
    """The bucket of each response time that has come up."""

    def __missing__(self, response_ms: int) -> int:
        if len(self) >= MOST_KINDS:
            self.clear()
        number = self[response_ms] = bucket(response_ms)
        return number


BUCKETS = Buckets()


def array(numbers: list[int]) -> bytes:
    """Return a bigint[] in binary."""
    size = len(numbers)
    flat = [part for number in numbers for part in (8, number)]
    return struct.pack(f">iiiiii{'iq' * size}", 20 + 12 * size, 1, 0, INT8, size, 1, *flat)


def microseconds(moment: datetime) -> int:
    """Return a moment in whole microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)
