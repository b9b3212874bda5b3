"""From a period's figures to a verdict: what differs, by how many units, and what it is called."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from usage.models import Proof


class Key(NamedTuple):
    """What a proof is of."""

    organization_id: UUID
    meter: str
    period_start: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Units of one organization, meter and period. None stands for what cannot be told.

    `rejected` is without those that a correction bills instead, which are `replaced`. Of the reported and rejected
    units an invoice to come will hold those `to_invoice`, and none ever those `unbilled`, as on a free plan;
    `given_up` are those among them whose subscription ended unpaid. `corrected` is what corrections come to, of which
    `credited` were given back. `uncertain` are units that Stripe may have counted in this period without having said
    so, `fresh` those it took so lately that its count may lag behind.
    `is_ahead`: by Stripe's clock an invoice of the period is closed that by ours is to come.
    """

    is_open: bool
    ledger: int | None
    rollups: int
    unreported: int = 0
    waiting: int = 0
    unknown: int = 0
    rejected: int = 0
    replaced: int = 0
    reported: int
    stripe: int | None
    invoiced: int | None
    to_invoice: int = 0
    unbilled: int = 0
    given_up: int = 0
    corrected: int = 0
    credited: int = 0
    correcting: int = 0
    uncertain: int = 0
    fresh: int = 0
    is_ahead: bool = False

    @property
    def held(self) -> int:
        """Units that the hourly sums have marked as put in reports."""
        return self.rollups - self.unreported

    @property
    def taken(self) -> int:
        """Units that reports hold."""
        return self.reported + self.waiting + self.unknown + self.rejected + self.replaced

    @property
    def on_its_way(self) -> int:
        return self.unreported + self.waiting + self.unknown

    @property
    def missing(self) -> int:
        """Units that invoices should hold by now and that neither they nor corrections do; below 0: too many."""
        due = self.rollups - self.on_its_way - self.to_invoice - self.unbilled
        return due - (self.invoiced or 0) - self.corrected - self.correcting


class Fault(NamedTuple):
    """A difference, or something on its way. `settled`: it has been made good, and stands here as the reason."""

    code: str
    units: int
    settled: bool = False


class Verdict(NamedTuple):
    status: Proof.Status
    faults: list[Fault]


def judge(figures: Figures) -> Verdict:
    """Return what the figures come to. A pure function of them."""
    found = [
        *of_ledger(figures),
        *of_reports(figures),
        *of_stripe(figures),
        *as_the_clocks_say(figures, of_invoices(figures)),
        *of_what_is_on_its_way(figures),
    ]
    if any(not fault.settled and fault.code not in Proof.ON_ITS_WAY for fault in found):
        return Verdict(Proof.Status.DIFFERS, found)
    if figures.is_open:
        return Verdict(Proof.Status.RUNNING, found)
    if any(fault.code in Proof.ON_ITS_WAY for fault in found):
        return Verdict(Proof.Status.WAITING, found)
    return Verdict(Proof.Status.PROVEN, found)


def of_ledger(figures: Figures) -> list[Fault]:
    gap = 0 if figures.ledger is None else figures.ledger - figures.rollups
    if gap < 0:
        return [Fault("ledger_short", -gap)]
    return [Fault("ledger_over", gap)] if gap else []


def of_reports(figures: Figures) -> list[Fault]:
    gap = figures.taken - figures.held
    if gap < 0:
        return [Fault("reports_short", -gap)]
    # Too many, and taken off again by a credit.
    return [Fault("reports_over", gap, settled=is_credited(figures, gap))] if gap else []


def of_stripe(figures: Figures) -> list[Fault]:
    gap = 0 if figures.stripe is None else figures.stripe - figures.reported
    if gap < 0:
        return [Fault("uncounted" if -gap <= figures.fresh else "stripe_short", -gap)]
    if gap <= figures.uncertain:
        return []
    return [Fault("stripe_over", gap, settled=is_credited(figures, gap))]


def is_credited(figures: Figures, gap: int) -> bool:
    return figures.credited >= gap and figures.missing == 0


def of_invoices(figures: Figures) -> list[Fault]:
    """Name what is missing by the first reason that there is for it, and what is too much likewise."""
    found = [Fault("given_up", figures.given_up, settled=True)] if figures.given_up else []
    if figures.replaced:
        found.append(Fault("refused", figures.replaced, settled=True))
    if figures.rejected:
        found.append(Fault("refused", figures.rejected))
    elif not figures.replaced and (late := figures.corrected + figures.credited) > 0:
        found.append(Fault("late", late, settled=True))
    missing = figures.missing
    if missing > 0:
        # Of reports that are not there nobody can say for which invoice they were.
        missing -= min(missing, figures.rejected)
        missing -= min(missing, max(figures.held - figures.taken, 0))
        return [*found, Fault("invoice_short", missing)] if missing else found
    # What got no answer may be on the invoice all the same.
    over = max(-missing - figures.uncertain, 0)
    over -= min(over, max(figures.taken - figures.held, 0))
    if figures.stripe is not None:
        over -= min(over, max(figures.stripe - figures.reported, 0))
    return [*found, Fault("invoice_over", over)] if over else found


def as_the_clocks_say(figures: Figures, faults: list[Fault]) -> list[Fault]:
    """What an invoice lacks that Stripe closed before its time is nobody's fault, and there is nothing to correct."""
    if not figures.is_ahead:
        return faults
    return [
        Fault("ahead", each.units) if each.code in {"invoice_short", "invoice_over"} else each
        for each in faults
    ]


def of_what_is_on_its_way(figures: Figures) -> list[Fault]:
    ways = {
        "unreported": figures.unreported,
        "waiting": figures.waiting,
        "unknown": figures.unknown,
        "to_invoice": figures.to_invoice,
        "correcting": abs(figures.correcting),
    }
    return [Fault(code, units) for code, units in ways.items() if units]
