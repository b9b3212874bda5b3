"""Whether a schedule came out right: what was answered against the ledger, and the ledger against the bill."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from tests.faults import books as bookkeeping
from tests.faults.books import Books
from tests.faults.director import Played
from tests.faults.founding import HARD_QUOTAS, METER
from tests.faults.load import ECHO, Call

# A hard quota may be passed by what was being served when Redis went, at most: each caller's one call.
IN_HAND = 4 * 4


@dataclass
class Counts:
    """A line of the report: calls by what was answered, and units by where they are counted."""

    calls: int = 0
    served: int = 0
    unknown: int = 0
    acknowledged: int = 0
    lost_with_redis: int = 0
    revived: int = 0
    over_quota: int = 0
    over_quota_kept: int = 0
    corrected: int = 0
    ledger: int = 0
    rollups: int = 0
    reported: int = 0
    stripe: int = 0
    invoiced: int = 0
    to_invoice: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass
class Verdict:
    counts: Counts
    wrong: list[str] = field(default_factory=list)


def judge(
    played: Played, books: Books, *, invoices: dict[str, list[dict[str, Any]]], product: str
) -> Verdict:
    """Return the figures, and a sentence for everything that is not as it is promised."""
    verdict = Verdict(Counts(calls=len(played.calls)))
    counts = verdict.counts
    counts.served = sum(call.outcome in {"served", "left", "settled"} for call in played.calls)
    counts.acknowledged = sum(call.outcome == "acknowledged" for call in played.calls)
    counts.unknown = sum(call.outcome == "unknown" for call in played.calls)
    counts.ledger, counts.rollups = bookkeeping.total(books.ledger), bookkeeping.total(books.rollups)
    counts.reported, counts.stripe = bookkeeping.total(books.sent), sum(books.stripe_total.values())
    verdict.wrong += bookkeeping.disagreements(books, played.accounts)
    _check_marked(played, verdict)
    _check_echoes(played, verdict)
    _check_quotas(played, books, verdict)
    _check_invoices(played, books, verdict, invoices=invoices, product=product)
    return verdict


def _check_marked(played: Played, verdict: Verdict) -> None:
    """Each call that has a name of its own, by its name."""
    ids = [account.id for account in played.accounts]
    stored = bookkeeping.marked_events(ids, f"/faults/{played.schedule.seed}/")
    for call in played.calls:
        if call.kind == "echo":
            continue
        events, units = stored.pop(call.endpoint, (0, 0))
        if events > 1:
            verdict.wrong.append(f"{told(call)}: {events} events are in the ledger")
        elif (
            units > call.most and units == call.units and any(loss.may_revive(call) for loss in played.losses)
        ):
            verdict.counts.revived += units - call.most
        elif units > call.most:
            verdict.wrong.append(f"{told(call)}: {units} units are in the ledger")
        elif units < call.least:
            # Events were stored for good before they were acknowledged.
            if call.kind != "events" and any(loss.may_hold(call) for loss in played.losses):
                verdict.counts.lost_with_redis += call.least - units
            else:
                verdict.wrong.append(f"{told(call)}: {units} units are in the ledger")
    verdict.wrong += [f"{endpoint}: in the ledger, and nobody called" for endpoint in stored]


def _check_echoes(played: Played, verdict: Verdict) -> None:
    """Calls of one endpoint, which are told apart by their number alone."""
    for customer in played.accounts:
        calls = [call for call in played.calls if call.kind == "echo" and call.customer == customer]
        least, most = sum(call.least for call in calls), sum(call.most for call in calls)
        stored = bookkeeping.events_of(customer.id, ECHO)
        if stored > most:
            verdict.wrong.append(
                f"{customer.name}: {stored} calls of echo are in the ledger, {most} were made at most"
            )
        missing = least - stored
        if missing > 0:
            lost = sum(
                loss.echoes[customer.id] + sum(loss.is_within(call) for call in calls)
                for loss in played.losses
            )
            if missing > lost:
                verdict.wrong.append(
                    f"{customer.name}: {stored} calls of echo are in the ledger, {least} were served, "
                    f"{lost} at most were lost with Redis"
                )
            else:
                verdict.counts.lost_with_redis += missing


def _check_quotas(played: Played, books: Books, verdict: Verdict) -> None:
    redis_died = any(act.what == "redis" for act in played.schedule.acts) or played.gave_redis_up
    keeps = not played.schedule.loses_redis
    for name, customer in played.customers.items():
        quota = HARD_QUOTAS.get(customer.plan)
        # Events are not asked about: nothing holds them back.
        sends = any(call.kind == "events" and call.customer == customer for call in played.calls)
        if quota is None or sends or (name == "mover" and played.move):
            continue
        for period, units in books.ledger.items():
            if period[0] == customer.id and period[1] == METER and units > quota:
                if keeps:
                    verdict.counts.over_quota_kept += units - quota
                else:
                    verdict.counts.over_quota += units - quota
                allowed = played.on_the_way[customer.id] + IN_HAND if redis_died else 0
                # An older file's counter has not heard of what was served after it.
                allowed += sum(
                    call.most
                    for call in played.calls
                    if call.customer == customer
                    and any(loss.file == "older" and loss.is_within(call) for loss in played.losses)
                )
                if units - quota > allowed:
                    verdict.wrong.append(
                        f"{customer.name}: {units} units in the period from {period[2]:%d %H:%M:%S}, "
                        f"the quota is {quota}, and {allowed} were on their way when Redis went"
                    )


def used_and_invoiced(
    played: Played, books: Books, *, invoices: dict[str, list[dict[str, Any]]], product: str
) -> dict[str, tuple[int, int]]:
    """Return how much of a meter was used in the periods that are over, and is on invoices, by who pays."""
    found = {}
    for name, customer in played.customers.items():
        if customer.subscription_id:
            used = sum(
                units
                for period, units in books.ledger.items()
                if period[0] == customer.id and is_invoiced(played, name, period[2])
            )
            found[name] = used, bookkeeping.invoiced_units(invoices[name], product=product)
    return found


def _check_invoices(
    played: Played, books: Books, verdict: Verdict, *, invoices: dict[str, list[dict[str, Any]]], product: str
) -> None:
    """Invoices of the periods that are over, of those who pay."""
    counts = verdict.counts
    corrected = bookkeeping.corrected_units([account.id for account in played.accounts])
    found = used_and_invoiced(played, books, invoices=invoices, product=product)
    for name, (used, invoiced) in found.items():
        customer, later = played.customers[name], corrected.get(played.customers[name].id, 0)
        counts.invoiced += invoiced
        counts.to_invoice += used
        counts.corrected += later
        missing = used - invoiced - later
        if not missing:
            continue
        verdict.wrong.append(
            f"{customer.name}: {used} units in periods that are over, {invoiced} on invoices"
            + (f", {later} corrected" if later else "")
            + (f" ({played.move}: {played.moved})" if name == "mover" else "")
        )


def is_invoiced(played: Played, name: str, period_start: datetime) -> bool:
    """Whether the units of a period are on the invoices that are looked at."""
    customer = played.customers[name]
    if customer.pays_since is None or int(period_start.timestamp()) < customer.pays_since:
        return False  # It was on Free: an event may lie before the subscription began.
    if name == "mover" and played.ended_at is not None:
        return int(period_start.timestamp()) < played.ended_at  # Then Free begins.
    if name == "mover" and played.move == "upgrade":
        return True  # The next invoice, as it would be by now, is among them.
    return period_start < played.renews_at


def told(call: Call) -> str:
    answers = ", ".join(call.answers)
    units = f"{call.least}" if call.least == call.most else f"{call.least} to {call.most}"
    return f"{call.customer.name} {call.kind} {call.endpoint} ({call.outcome}: {answers}; {units} units)"


def outcomes(calls: list[Call]) -> Counter[str]:
    return Counter(f"{call.kind} {call.outcome}" for call in calls)
