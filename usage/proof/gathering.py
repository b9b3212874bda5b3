"""What there is of usage here: the ledger, its hourly sums, the reports and the corrections, by period."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import F, Max, QuerySet, Sum, UUIDField, Value
from django.db.models.functions import Cast, Coalesce, Greatest, TruncMonth

from billing.models import Entitlement, Meter
from billing.periods import calendar_month
from usage.models import Correction, DroppedUnits, MeterReport, Proof, UsageEvent, UsageRollup
from usage.partitions import partition_name
from usage.proof.invoicing import Accounts, accounts_of
from usage.proof.judging import Key

MARGIN = timedelta(days=63)
# Stripe's summaries follow its events at some distance.
FRESH = timedelta(minutes=10)
LEDGER, ROLLUPS, REPORTS = "ledger", "rollups", "reports"


class Reported(NamedTuple):
    """Units of reports in one state that are dated at one moment. `replaced`: a correction bills them instead.

    `customer_id` is Stripe's id of whom they were told of, empty where it was not kept.
    `billed_as_of` is the moment by which they belong on an invoice: but for what came after an end the same.
    """

    state: str
    moment: datetime
    units: int
    replaced: bool
    fresh: int
    billed_as_of: datetime
    customer_id: str = ""


class Sums(NamedTuple):
    """Units of one period in the ledger, in the hourly sums, or in reports of one state and moment.

    `marked` are those that the hourly sums have as reported; `moment`, `replacing`, `customer_id` and `last` are of
    reports alone.
    """

    source: str
    key: Key
    state: str
    moment: datetime
    replacing: UUID | None
    customer_id: str
    units: int
    marked: int
    last: datetime | None


@dataclass(slots=True)
class Corrected:
    """Units of corrections: those that are settled, what of them was given back, and those on their way."""

    done: int = 0
    credited: int = 0
    under_way: int = 0


@dataclass(slots=True)
class Counts:
    """What is here of one period. `end` is where it ends, `until` where the organization's next one begins."""

    key: Key
    end: datetime
    until: datetime | None
    ledger: int | None
    ledger_is_kept: bool
    rollups: int = 0
    unreported: int = 0
    reported: list[Reported] = field(default_factory=list)
    corrected: Corrected = field(default_factory=Corrected)
    before: Proof | None = None

    @property
    def start(self) -> datetime:
        return self.key.period_start

    def units(self, *states: str) -> int:
        return sum(each.units for each in self.reported if each.state in states)

    @property
    def sent(self) -> list[Reported]:
        return [each for each in self.reported if each.state == MeterReport.State.SENT]


@dataclass(slots=True)
class Gathered:
    """The counts of some organizations' periods, and what invoices hold for them."""

    counts: dict[Key, Counts]
    accounts: Accounts

    def periods_of(self, organization_id: UUID, meter: str) -> list[Counts]:
        """Return the periods of one organization and meter, the oldest first."""
        found = [c for k, c in self.counts.items() if k[:2] == (organization_id, meter)]
        return sorted(found, key=lambda each: each.start)


# When units were used, as Stripe was told: of reports from before it was kept, as it is told as a rule.
MOMENT = Coalesce("dated_at", Greatest("hour", "period_start"))


def gather(
    organization_ids: Sequence[UUID], *, meters: Iterable[Meter], since: datetime, now: datetime
) -> Gathered:
    """Return what there is of periods that begin at `since` or later. Raises StripeUnavailable.

    One look at each table for all of the organizations. Of periods that began up to MARGIN before, everything but
    the ledger is gathered too: a change of plan moves units from one into the next.
    """
    known = {meter.slug for meter in meters}
    mine: dict[str, Any] = {
        "organization_id__in": list(organization_ids),
        "period_start__gte": since - MARGIN,
    }
    # An event lies in its period: so the ledger's older months need not be looked at.
    of_ledger = UsageEvent.objects.filter(organization_id__in=list(organization_ids), occurred_at__gte=since)
    rollups = UsageRollup.objects.filter(**mine)
    gone, when_dropped = dropped(rollups), units_when_dropped(DroppedUnits.objects.filter(**mine))
    accounts = accounts_of(organization_ids, meters, since=since - MARGIN)
    sums = look(of_ledger.filter(period_start__gte=since), rollups, MeterReport.objects.filter(**mine))
    ledger = {each.key: each.units for each in sums if each.source == LEDGER}
    in_all = {each.key: each.units for each in sums if each.source == ROLLUPS}
    marked = {each.key: each.marked for each in sums if each.source == ROLLUPS}
    reported = reported_by_moment([each for each in sums if each.source == REPORTS], accounts, now=now)
    corrected = corrected_in(Correction.objects.filter(**mine))
    stored = {key_of(p): p for p in Proof.objects.filter(**mine)}
    keys = {k for k in ledger.keys() | in_all.keys() | reported.keys() | stored.keys() if k.meter in known}
    ends = Ends(organization_ids, accounts, stored)
    counts = {}
    for key in sorted(keys):
        end, until = ends.find(key, keys)
        before = stored.get(key)
        # What was dropped once stays so, though a straggler may have its month made anew.
        is_kept = key not in gone and (before is None or before.ledger_is_kept)
        if is_kept:
            in_ledger: int | None = ledger.get(key, 0)
        elif key in when_dropped and gone.get(key, set()) <= when_dropped[key].keys():
            in_ledger = sum(when_dropped[key].values()) + ledger.get(key, 0)
        else:
            # Dropped before its units were kept.
            in_ledger = before.ledger if before else None
        counts[key] = Counts(
            key=key,
            end=end,
            until=until,
            ledger=in_ledger,
            ledger_is_kept=is_kept,
            rollups=in_all.get(key, 0),
            unreported=in_all.get(key, 0) - marked.get(key, 0),
            reported=reported.get(key, []),
            corrected=corrected.get(key, Corrected()),
            before=before,
        )
    return Gathered(counts, accounts)


def key_of(row: Any) -> Key:
    return Key(row.organization_id, row.meter_id, row.period_start)


def look(ledger: QuerySet[Any], rollups: QuerySet[Any], reports: QuerySet[Any]) -> list[Sums]:
    """Return the sums of all three as they are at one moment: what is stored while they are read is in none of them.

    One statement sees one state of the database, of several each sees its own.
    """
    of_none = {
        "in_state": Value(""),
        "told_at": F("period_start"),
        "replacing": Cast(Value(None), UUIDField()),
        "told_of": Value(""),
    }
    of_reports = {
        "in_state": F("state"),
        "told_at": MOMENT,
        "replacing": F("correction_id"),
        "told_of": F("stripe_customer_id"),
    }
    parts = [
        summed(LEDGER, ledger, "meter", marked="units", last="occurred_at", **of_none),
        summed(ROLLUPS, rollups, "meter", marked="reported_units", last="hour", **of_none),
        summed(REPORTS, reports, "meter_id", marked="units", last="sent_at", **of_reports),
    ]
    rows = parts[0].union(*parts[1:], all=True)
    return [
        Sums(
            source=source,
            key=Key(organization_id, meter, start),
            state=state,
            moment=moment,
            replacing=replacing,
            customer_id=customer_id,
            units=int(units),
            marked=int(marked),
            last=last,
        )
        for source, organization_id, meter, start, state, moment, replacing, customer_id, units, marked, last in rows
    ]


def summed(
    source: str, rows: QuerySet[Any], meter: str, *, marked: str, last: str, **by: Any
) -> QuerySet[Any]:
    grouped = rows.order_by().annotate(source=Value(source), **by)
    columns = grouped.values_list("source", "organization_id", meter, "period_start", *by)
    return columns.annotate(n=Sum("units"), of_marked=Sum(marked), latest=Max(last))


def dropped(rollups: QuerySet[UsageRollup]) -> dict[Key, set[datetime]]:
    """Return the periods of which months with usage are in the ledger no more, and those months' first moments."""
    months = months_kept()
    by_month = rollups.order_by().annotate(month=TruncMonth("hour", tzinfo=UTC))
    found: dict[Key, set[datetime]] = defaultdict(set)
    rows = by_month.values_list("organization_id", "meter", "period_start", "month").distinct()
    for organization_id, meter, start, month in rows:
        if partition_name(calendar_month(month)) not in months:
            found[Key(organization_id, meter, start)].add(month)
    return found


def units_when_dropped(rows: QuerySet[DroppedUnits]) -> dict[Key, dict[datetime, int]]:
    """Return what the ledger had of periods when their months were dropped, by month."""
    found: dict[Key, dict[datetime, int]] = defaultdict(dict)
    columns = rows.values_list("organization_id", "meter", "period_start", "month_id", "units")
    for organization_id, meter, start, month, units in columns:
        found[Key(organization_id, meter, start)][month] = units
    return found


def reported_by_moment(
    reports: Iterable[Sums], accounts: Accounts, *, now: datetime
) -> dict[Key, list[Reported]]:
    found: dict[Key, list[Reported]] = defaultdict(list)
    for each in reports:
        is_replaced = each.replacing is not None and each.state == MeterReport.State.REJECTED
        fresh = each.units if each.last and each.last > now - FRESH else 0
        account = accounts.of(each.key.organization_id, each.key.meter)
        belongs = account.billed_as_of(each.moment, period_start=each.key.period_start)
        found[each.key].append(
            Reported(each.state, each.moment, each.units, is_replaced, fresh, belongs, each.customer_id)
        )
    return found


def corrected_in(corrections: QuerySet[Correction]) -> dict[Key, Corrected]:
    found: dict[Key, Corrected] = defaultdict(Corrected)
    rows = corrections.values_list("organization_id", "meter_id", "period_start", "state", "units")
    State = Correction.State
    for organization, meter, start, state, units in rows:
        sums_of = found[Key(organization, str(meter), start)]
        if state in {State.SENT, State.FREE}:
            sums_of.done += units
            sums_of.credited += max(-units, 0)
        elif state != State.FAILED:
            sums_of.under_way += units
    return found


class Ends:
    """Knows where periods end: that is not kept with the usage."""

    def __init__(
        self, organization_ids: Sequence[UUID], accounts: Accounts, stored: dict[Key, Proof]
    ) -> None:
        current = Entitlement.objects.filter(organization__in=organization_ids)
        self.current = {
            (owner, start): end
            for owner, start, end in current.values_list("organization_id", "period_start", "period_end")
        }
        self.accounts, self.stored = accounts, stored
        self._starts: dict[tuple[UUID, str], list[datetime]] | None = None

    def find(self, key: Key, keys: set[Key]) -> tuple[datetime, datetime | None]:
        """Return where the period ends, and where the next one that anything is known of begins.

        One that a change of plan cut short ends where the next one begins.
        """
        if self._starts is None:
            starts: dict[tuple[UUID, str], list[datetime]] = defaultdict(list)
            for each in sorted(keys):
                starts[each[:2]].append(each.period_start)
            self._starts = starts
        mine = self._starts[key[:2]]
        place = bisect_right(mine, key.period_start)
        following = mine[place] if place < len(mine) else None
        end = self.natural_end(key)
        return (min(end, following) if following else end), following

    def natural_end(self, key: Key) -> datetime:
        current = self.current.get((key.organization_id, key.period_start))
        if current:
            return current
        courses = [
            each for each in self.accounts.courses.get(key.organization_id, []) if key.period_start in each
        ]
        if key in self.stored:
            # As it was when the subscription may not have ended yet.
            ended = [each.ends for each in courses if each.ends]
            cut = [max(ended)] if ended and len(ended) == len(courses) else []
            return min([self.stored[key].period_end, *cut])
        account = self.accounts.of(key.organization_id, key.meter)
        billed = [each.end for each in account.billed if each.start == key.period_start]
        if billed:
            return max(billed)
        ends = [end for each in courses if (end := each.find_end(key.period_start))]
        return max(ends) if ends else calendar_month(key.period_start).end


def months_kept() -> set[str]:
    """Return the names of the ledger's partitions that are there."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
            "WHERE inhparent = to_regclass('usage_event')"
        )
        return {row[0] for row in cursor.fetchall()}
