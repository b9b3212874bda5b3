"""What each event adds to its period, by how its meter aggregates. With the entitlements locked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from django.db.backends.utils import CursorWrapper

from billing.models import Meter
from usage.ingest.arrays import array
from usage.ingest.items import Item, Refused
from usage.ingest.spans import Span

Aggregation = Meter.Aggregation
LARGEST = 10**12
# Organization, meter, and the start of the first of the periods that count together.
Place = tuple[UUID, str, datetime]

PEAKS = """
SELECT organization_id, meter, period_start, value FROM usage_peak
WHERE (organization_id, meter, period_start)
   IN (SELECT * FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[]))
"""
RAISE = """
INSERT INTO usage_peak (organization_id, meter, period_start, value)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::int8[])
ON CONFLICT (organization_id, meter, period_start) DO UPDATE SET value = excluded.value
"""
SEE = """
INSERT INTO usage_distinct (organization_id, meter, period_start, key)
SELECT DISTINCT * FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::uuid[])
ON CONFLICT DO NOTHING
RETURNING organization_id, meter, period_start, key
"""


@dataclass(slots=True)
class Entry:
    """An event on its way into the ledger: see UsageEvent for `units`, `value` and `distinct_key`."""

    item: Item
    organization_id: UUID
    at: datetime
    span: Span
    units: int = 0
    value: int | None = None
    distinct_key: UUID | None = None

    @property
    def place(self) -> Place:
        return self.organization_id, self.item.meter, self.span.first


def fit(entry: Entry, aggregation: str) -> None:
    """Note in an entry what it says to a meter of that kind. Raises Refused where it cannot say that."""
    item = entry.item
    name = item.names.value
    if aggregation == Aggregation.COUNT:
        if item.value not in {None, 1}:
            raise Refused("invalid", f"{item.meter} counts each event as 1: leave {name} out.")
        entry.units = 1
    elif item.value is None:
        raise Refused("missing", f"{name} is missing: {item.meter} needs one.")
    elif aggregation == Aggregation.UNIQUE:
        text = "\0".join((str(entry.organization_id), item.meter, str(item.value)))
        entry.distinct_key = UUID(bytes=sha256(text.encode()).digest()[:16])
    else:
        number = whole(item)
        if aggregation == Aggregation.MAX:
            entry.value = number
        else:
            entry.units = number


def whole(item: Item) -> int:
    """Return an item's value as whole units, which is what Stripe bills. Raises Refused."""
    value, name = item.value, item.names.value
    if isinstance(value, str):
        raise Refused("invalid", f"{name} has to be a number for {item.meter}, and this is a text.")
    number = value or 0
    if number < 0:
        raise Refused("negative", f"{name} is negative: what was used is never taken back by an event.")
    if number > LARGEST:
        raise Refused("too_large", f"{name} is larger than {LARGEST:,}.")
    if isinstance(number, float):
        raise Refused("not_whole", f"{name} has to be a whole number: whole units are what is billed.")
    return number


def work_out(cursor: CursorWrapper, entries: Sequence[Entry]) -> None:
    """Set the units of those that depend on what their period has had, in the order given.

    Nobody else does so for the same organizations meanwhile: their entitlements are locked.
    """
    raise_peaks(cursor, [entry for entry in entries if entry.value is not None])
    see_values(cursor, [entry for entry in entries if entry.distinct_key is not None])


def raise_peaks(cursor: CursorWrapper, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    places = list({entry.place for entry in entries})
    cursor.execute(PEAKS, columns(places))
    before: dict[Place, int] = {tuple(row[:3]): row[3] for row in cursor.fetchall()}
    peaks = dict(before)
    for entry in entries:
        peak, value = peaks.get(entry.place, 0), entry.value or 0
        entry.units = max(value - peak, 0)
        peaks[entry.place] = max(value, peak)
    risen = [place for place in places if before.get(place) != peaks[place]]
    cursor.execute(RAISE, [*columns(risen), array(peaks[place] for place in risen)])


def see_values(cursor: CursorWrapper, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    cursor.execute(
        SEE, [*columns([entry.place for entry in entries]), array(entry.distinct_key for entry in entries)]
    )
    new = {tuple(row) for row in cursor.fetchall()}
    for entry in entries:
        seen = (*entry.place, entry.distinct_key)
        entry.units = int(seen in new)
        new.discard(seen)


def columns(places: Sequence[Place]) -> list[str]:
    return [array(place[number] for place in places) for number in range(3)]
