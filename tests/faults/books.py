"""The five places that usage is counted in, and what is wrong where they do not agree.

Everything is read by plain SQL and from Stripe's API, with nothing of the product's own proof.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol
from uuid import UUID

from django.db import connection

MINUTE = 60
Period = tuple[UUID, str, datetime]  # Organization, meter, start.
Sums = dict[Period, int]


class Stripe(Protocol):
    def counted(self, meter_id: str, customer_id: str, *, start: int, end: int) -> int: ...

    def invoices(self, customer_id: str) -> list[dict[str, Any]]: ...


@dataclass(frozen=True)
class Account:
    """An organization to be looked at. `stripe_id` is its customer's, empty where it has none."""

    id: UUID
    name: str
    stripe_id: str


@dataclass
class Books:
    """Units by organization, meter and period; of reports by state as well."""

    ledger: Sums = field(default_factory=dict)
    rollups: Sums = field(default_factory=dict)
    calls: Sums = field(default_factory=dict)
    rolled_calls: Sums = field(default_factory=dict)
    unreported: Sums = field(default_factory=dict)
    reports: dict[str, Sums] = field(default_factory=dict)
    # By organization, meter and the start of the span, which is as long as up to the next one's.
    stripe: Sums = field(default_factory=dict)
    stripe_total: dict[tuple[UUID, str], int] = field(default_factory=dict)

    @property
    def sent(self) -> Sums:
        return self.reports.get("sent", {})

    @property
    def periods(self) -> list[Period]:
        everywhere = [self.ledger, self.rollups, *self.reports.values()]
        return sorted({period for sums in everywhere for period in sums})


def total(sums: Sums, organization: UUID | None = None) -> int:
    return sum(units for period, units in sums.items() if organization in {None, period[0]})


def read_books(
    accounts: Sequence[Account], *, stripe: Stripe, meters: dict[str, str], now: datetime
) -> Books:
    """Count everything anew. `meters` are Stripe's ids by slug."""
    ids = [account.id for account in accounts]
    books = Books()
    for period, units, calls in _grouped("SELECT {key}, sum(units), count(*) FROM usage_event", ids):
        books.ledger[period], books.calls[period] = units, calls
    rollups = "SELECT {key}, sum(units), sum(calls), sum(units - reported_units) FROM usage_rollup"
    for period, units, calls, unreported in _grouped(rollups, ids):
        books.rollups[period], books.rolled_calls[period], books.unreported[period] = units, calls, unreported
    for period, units, state in _grouped(
        "SELECT {key}, sum(units), state FROM usage_meterreport", ids, also=", state"
    ):
        books.reports.setdefault(state, {})[period] = units
    _ask_stripe(books, accounts, stripe=stripe, meters=meters, now=now)
    return books


def _grouped(query: str, ids: list[UUID], *, also: str = "") -> Iterable[tuple[Any, ...]]:
    key = "organization_id, meter, period_start"
    with connection.cursor() as cursor:
        cursor.execute(
            f"{query.format(key=key)} WHERE organization_id = ANY(%s) GROUP BY {key}{also}",
            [ids],
        )
        for organization, meter, start, *values in cursor.fetchall():
            numbers = [value if isinstance(value, str) else int(value) for value in values]
            yield (organization, meter, start), *numbers


def _ask_stripe(
    books: Books, accounts: Sequence[Account], *, stripe: Stripe, meters: dict[str, str], now: datetime
) -> None:
    starts: dict[tuple[UUID, str], list[datetime]] = defaultdict(list)
    for organization, meter, start in books.periods:
        starts[organization, meter].append(start)
    end = (int(now.timestamp()) // MINUTE + 6) * MINUTE
    for account in accounts:
        for meter, meter_id in meters.items():
            if not account.stripe_id:
                continue
            begun = starts[account.id, meter]
            books.stripe_total[account.id, meter] = stripe.counted(
                meter_id, account.stripe_id, start=(end - 40 * 86400) // MINUTE * MINUTE, end=end
            )
            edges = [int(start.timestamp()) for start in begun]
            # Summaries go by whole minutes: of periods that part within one, only the sum can be asked for.
            if all(edge % MINUTE == 0 for edge in edges[1:]):
                for start, (first, last) in zip(begun, pairwise([*edges, end]), strict=True):
                    books.stripe[account.id, meter, start] = stripe.counted(
                        meter_id, account.stripe_id, start=first // MINUTE * MINUTE, end=last
                    )


def disagreements(books: Books, accounts: Sequence[Account]) -> list[str]:
    """Return a sentence for each place that does not say what the ledger says."""
    names = {account.id: account.name for account in accounts}
    reached = {account.id for account in accounts if account.stripe_id}
    found = []
    for period in books.periods:
        organization, meter, start = period
        where = f"{names[organization]}, {meter}, period from {start:%Y-%m-%d %H:%M:%S}"
        ledger = books.ledger.get(period, 0)
        others = {"rollups": books.rollups.get(period, 0)}
        if organization in reached:
            others["reports sent"] = books.sent.get(period, 0)
            if period in books.stripe:
                others["Stripe's summary"] = books.stripe[period]
        found += [
            f"{where}: the ledger has {ledger} units, {name} {units}"
            for name, units in others.items()
            if units != ledger
        ]
        calls, rolled = books.calls.get(period, 0), books.rolled_calls.get(period, 0)
        if calls != rolled:
            found.append(f"{where}: the ledger has {calls} events, rollups count {rolled}")
    for (organization, meter), counted in books.stripe_total.items():
        ledger = sum(units for period, units in books.ledger.items() if period[:2] == (organization, meter))
        if counted != ledger:
            found.append(f"{names[organization]}, {meter}: the ledger has {ledger} units, Stripe {counted}")
    return found


def invoiced_units(invoices: list[dict[str, Any]], *, product: str) -> int:
    """Return the units of a meter on all invoices that are final."""
    return sum(
        int(line["quantity"] or 0)
        for invoice in invoices
        if invoice["status"] != "draft"
        for line in invoice["lines"]["data"]
        if line["pricing"]["price_details"]["product"] == product
    )


def marked_events(ids: Sequence[UUID], prefix: str) -> dict[str, tuple[int, int]]:
    """Return how many events the ledger has of each endpoint that begins so, and of how many units."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT endpoint, count(*), sum(units) FROM usage_event"
            " WHERE organization_id = ANY(%s) AND starts_with(endpoint, %s) GROUP BY endpoint",
            [list(ids), prefix],
        )
        return {endpoint: (int(count), int(units)) for endpoint, count, units in cursor.fetchall()}


def events_of(organization: UUID, endpoint: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM usage_event WHERE organization_id = %s AND endpoint = %s",
            [organization, endpoint],
        )
        return int(cursor.fetchone()[0])


def can_correct() -> bool:
    """Whether this release puts on a later invoice what came too late for its own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('usage_correction') IS NOT NULL")
        return bool(cursor.fetchone()[0])


def corrected_units(ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the units of corrections that Stripe has, or that cost nothing, by organization."""
    if not can_correct():
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT organization_id, sum(units) FROM usage_correction"
            " WHERE organization_id = ANY(%s) AND state IN ('sent', 'free') GROUP BY organization_id",
            [list(ids)],
        )
        return {organization: int(units) for organization, units in cursor.fetchall()}
