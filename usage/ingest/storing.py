"""Take events: all that can be, in one transaction, each once."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from django.db import DataError, connection, transaction
from django.db.backends.utils import CursorWrapper
from redis.exceptions import RedisError

from accounts import clock
from accounts.models import Organization
from billing.entitlements import lock_entitlements, moved_on, refresh_entitlement
from billing.periods import Period, calendar_month
from usage import ledger
from usage.ingest.arrays import array
from usage.ingest.items import ACCEPTED, DUPLICATE, Item, Outcome, Refused, moment_of
from usage.ingest.reading import shown
from usage.ingest.spans import AHEAD, Spans, micros
from usage.ingest.units import Entry, Place, fit, work_out
from usage.models import UsageEvent, UsageRollup
from usage.partitions import OutOfReach, ensure_partition
from usage.signals import events_stored, units_ingested

NO_KEY = UUID(int=0)  # No API key was used.
ENDPOINT = 200
# Of a period, in all: a little less than PostgreSQL and Redis can count, for what is on its way to either.
MOST_UNITS = 9 * 10**18
# With when the oldest began of the periods that may be open: see `usage.ingest.spans`.
FIND = """
SELECT organization.ref, organization.id, entitlement.valid_until, least(
    entitlement.period_start,
    (entitlement.carried_from ->> 0)::timestamptz,
    (entitlement.previous_starts ->> 0)::timestamptz
)
FROM accounts_organization AS organization
JOIN billing_entitlement AS entitlement ON entitlement.organization_id = organization.id
WHERE organization.ref = ANY(%s::text[])
"""
REF = re.compile(r"[0-9A-Za-z]+", re.ASCII)
# With the meters' rows held, so that none is deleted, or made to count otherwise, before what it counts is stored.
METERS = (
    "SELECT slug, aggregation FROM billing_meter WHERE slug = ANY(%s::text[]) ORDER BY slug FOR KEY SHARE"
)
# Ordered, as everywhere: two who send the same events wait for each other at the first one.
KNOWN = "SELECT id, fingerprint FROM usage_ingested WHERE id = ANY(%s::uuid[])"
CLAIM = """
INSERT INTO usage_ingested (id, fingerprint, organization_id, occurred_at)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[]) AS new (id, fingerprint, organization, at)
ORDER BY new.id
ON CONFLICT (id) DO NOTHING
RETURNING id
"""
CONFLICT = Outcome(
    "refused",
    "conflict",
    "An event of this source and id was taken that says something else. It stays as it is: send this as another one.",
)


def ingest(items: Sequence[Item]) -> list[Outcome]:
    """Store what is new, and return what became of each event, in their order, once that is committed.

    Where a period's units would be more than can be kept, what has no room is refused, and the rest is taken. Raises
    OperationalError or InterfaceError where PostgreSQL does not answer or has no room, and InternalError where it only
    reads: sent again, the same events count once.
    """
    if not items:
        return []
    refs, since = find({item.organization for item in items})
    now = micros(clock.now())
    # The last for what is without a time and has to wait for its organization, maybe beyond a month's end.
    times = {now, now + AHEAD, *(item.time for item in items if item.time is not None)}
    months = make_room(moment_of(time) for time in times if micros(since) <= time <= now + AHEAD)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            return Batch(cursor, items, refs, months).take()
    except DataError:
        # Rare enough that room is looked for only now: it costs a query for each period.
        with transaction.atomic(), connection.cursor() as cursor:
            return Batch(cursor, items, refs, months, looks_for_room=True).take()


def make_room(moments: Iterable[datetime]) -> list[Period]:
    """Make the ledger's months around these moments exist, but for those that were dropped; return those that do."""
    months = []
    for month in {calendar_month(moment) for moment in moments}:
        with suppress(OutOfReach):
            ensure_partition(month.start)
            months.append(month)
    return months


def find(refs: Iterable[str]) -> tuple[dict[str, UUID], datetime]:
    """Return the ids of the organizations that there are of these, by ref, with their entitlements moved on.

    Each by itself where its time is up: the batch's transaction has no time for many. Beside them, since when one of
    them may have a period that is open.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIND, [array(ref for ref in refs if REF.fullmatch(ref))])
        rows = cursor.fetchall()
    found, now = {}, clock.now()
    since = now
    for ref, organization_id, ends, oldest in rows:
        found[ref] = organization_id
        since = min(since, oldest)
        if now >= ends:
            try:
                moved = refresh_entitlement(Organization.objects.get(pk=organization_id))
            except RedisError:
                continue  # Who keeps a copy cannot be told just now: the batch works it out for itself.
            since = min(since, moved.counted_starts[0])
    return found, since


class Batch:
    """Events on their way into the ledger. Part of a transaction. `refs` are the organizations' ids by ref.

    `months` are those that the ledger has for them: an event that lies in none is refused. With `looks_for_room` one is
    refused where its period has more units than can be kept. Otherwise that is a DataError when they are stored.
    """

    def __init__(
        self,
        cursor: CursorWrapper,
        items: Sequence[Item],
        refs: Mapping[str, UUID],
        months: Sequence[Period],
        *,
        looks_for_room: bool = False,
    ) -> None:
        self.cursor = cursor
        self.items = items
        self.months = months
        self.entitlements = lock_entitlements(refs.values())
        self.refs = {ref: pk for ref, pk in refs.items() if pk in self.entitlements}
        cursor.execute(METERS, [list({item.meter for item in items})])
        self.aggregations: dict[str, str] = dict(cursor.fetchall())
        # After the wait for the locks.
        self.now = clock.now()
        self.spans: dict[UUID, Spans] = {}
        self.looks_for_room = looks_for_room
        self.room: dict[Place, int] = {}

    def take(self) -> list[Outcome]:
        outcomes, entries = self.judge()
        lost = {entry.item.key for entry in entries.values()} - self.claim(entries)
        if lost:
            # Somebody else, who names another organization, has taken these since they were looked for.
            known = self.known(list(lost))
            for index, item in enumerate(self.items):
                if item.key in lost:
                    outcomes[index] = again(item, known)
                    entries.pop(index, None)
        if entries:
            self.store(list(entries.values()))
        return outcomes

    def judge(self) -> tuple[list[Outcome], dict[int, Entry]]:
        """Return what becomes of each event, and those that are new, by their place."""
        known = self.known([item.key for item in self.items])
        outcomes: list[Outcome] = []
        entries: dict[int, Entry] = {}
        for index, item in enumerate(self.items):
            # Before anything else is asked: what was taken once stays taken, whatever has changed since.
            if item.key in known:
                outcomes.append(again(item, known))
                continue
            try:
                entries[index] = self.enter(item)
            except Refused as refused:
                outcomes.append(Outcome.of(refused))
            else:
                known[item.key] = item.fingerprint
                outcomes.append(ACCEPTED)
        return outcomes, entries

    def known(self, keys: list[UUID]) -> dict[UUID, UUID]:
        """Return the fingerprints of those that were taken before."""
        self.cursor.execute(KNOWN, [array(keys)])
        return dict(self.cursor.fetchall())

    def enter(self, item: Item) -> Entry:
        """Return an event with where it belongs. Raises Refused."""
        organization_id = self.refs.get(item.organization)
        if organization_id is None:
            name = item.names.organization
            raise Refused(
                "unknown_organization", f"{name}: no customer has the ref {shown(item.organization)}."
            )
        aggregation = self.aggregations.get(item.meter)
        if aggregation is None:
            raise Refused("unknown_meter", f"{item.names.meter}: no meter has the slug {shown(item.meter)}.")
        if organization_id not in self.spans:
            self.spans[organization_id] = self.look_at(organization_id)
        if item.meter not in self.entitlements[organization_id].quotas:
            raise Refused("not_in_plan", f"The plan of {item.organization} includes no {item.meter}.")
        at, span = self.spans[organization_id].find(item.time, item.names)
        entry = Entry(item, organization_id, moment_of(at), span)
        if not any(entry.at in month for month in self.months):
            raise Refused(
                "too_old",
                f"{item.names.time} lies in a month of which the ledger keeps no events any more: ask the staff of "
                "this installation for a correction.",
            )
        fit(entry, aggregation)
        if self.looks_for_room:
            self.take_room(entry)
        return entry

    def take_room(self, entry: Entry) -> None:
        """Count an event's units into its period. Raises Refused where they are more than that can hold."""
        if entry.place not in self.room:
            spans = self.spans[entry.organization_id].spans
            rollups = UsageRollup.objects.filter(
                organization_id=entry.organization_id,
                meter=entry.item.meter,
                period_start__in=[span.start for span in spans if span.first == entry.span.first],
            )
            self.room[entry.place] = MOST_UNITS - rollups.units()
        if entry.units and entry.units > self.room[entry.place]:
            raise Refused(
                "too_large", f"With this event its period would have more than {MOST_UNITS:,} units."
            )
        self.room[entry.place] -= entry.units

    def look_at(self, organization_id: UUID) -> Spans:
        entitlement = self.entitlements[organization_id]
        if self.now >= entitlement.valid_until:
            try:
                with transaction.atomic():
                    entitlement = refresh_entitlement(entitlement.organization, now=self.now)
            except RedisError:
                # Not saved: who keeps a copy of it could not be told just now.
                for name, value in moved_on(entitlement, now=self.now).items():
                    setattr(entitlement, name, value)
            self.entitlements[organization_id] = entitlement
        return Spans(entitlement, now=micros(self.now))

    def claim(self, entries: Mapping[int, Entry]) -> set[UUID]:
        """Write down for good that these were taken; return the keys of those that nobody else has taken."""
        if not entries:
            return set()
        found = list(entries.values())
        self.cursor.execute(
            CLAIM,
            [
                array(entry.item.key for entry in found),
                array(entry.item.fingerprint for entry in found),
                array(entry.organization_id for entry in found),
                array(entry.at for entry in found),
            ],
        )
        return {row[0] for row in self.cursor.fetchall()}

    def store(self, entries: Sequence[Entry]) -> None:
        work_out(self.cursor, entries)
        ledger.stage(self.cursor, map(row_of, entries))
        ledger.store_staged(self.cursor)
        events_stored.send(sender=UsageEvent, last_served={})
        units: Counter[tuple[UUID, str, datetime]] = Counter()
        for entry in entries:
            units[entry.organization_id, entry.item.meter, entry.span.start] += entry.units
        refs = {pk: ref for ref, pk in self.refs.items()}
        units_ingested.send(sender=UsageEvent, units=+units, refs=refs)


def again(item: Item, known: Mapping[UUID, UUID]) -> Outcome:
    return DUPLICATE if known.get(item.key) == item.fingerprint else CONFLICT


def row_of(entry: Entry) -> ledger.Row:
    item = entry.item
    return (
        item.key,
        entry.at,
        entry.organization_id,
        NO_KEY,
        item.meter,
        entry.units,
        entry.span.start,
        item.source[:ENDPOINT],
        "",
        0,
        0,
        entry.value,
        entry.distinct_key,
    )
