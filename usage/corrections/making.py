"""Find out what an invoice lacks or has too much of, what that costs, and keep it as a correction."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts import clock
from accounts.models import Organization
from billing.ceilings import tiers_of
from billing.models import Meter
from billing.stripe.reconciling import fetch_invoices_of
from billing.templatetags.money import money
from usage.corrections.pricing import charge, net, share_of
from usage.models import Correction, MeterReport, Proof, UsageRollup
from usage.proof.figures import figures_of, owner_of
from usage.proof.gathering import Counts, Gathered, gather
from usage.proof.hours import of, report_gaps
from usage.proof.invoicing import Billed, Standing
from usage.proof.judging import Figures

State = MeterReport.State
ON_NONE = "on no invoice so far"


class CannotCorrect(Exception):
    """There is nothing to correct, or not yet, or only by a person. `str(error)` says why, for staff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A correction that is not made yet. `after` is the number of the period's last one when it was computed.

    `reports` are those that Stripe refused, which it replaces. `billed` is None where nothing of it is billed.
    Of no `units` where the period's corrections bill those reports already: they came too late first, and were refused
    later. `was_accepted`: a difference of the period was accepted as it is, and something has changed since.
    """

    organization: Organization
    meter: Meter
    period_start: datetime
    period_end: datetime
    after: int
    total_before: int
    units: int
    amount: int
    billed: Billed | None
    reason: str
    reports: tuple[UUID, ...] = ()
    was_accepted: bool = False

    @property
    def is_credit(self) -> bool:
        return self.units < 0

    @property
    def needs_yes(self) -> bool:
        """Whether a person has to agree: to give money back, or to charge what may have been let go."""
        return self.is_credit or (self.was_accepted and self.amount > 0)

    @property
    def description(self) -> str:
        start, end = (
            (self.billed.start, self.billed.end) if self.billed else (self.period_start, self.period_end)
        )
        units = abs(self.units)
        unit = self.meter.unit if units == 1 else f"{self.meter.unit}s"
        return f"Correction: {units:,} {unit} of {days(start, end)}, {self.reason}"

    @property
    def sentence(self) -> str:
        """What it comes to, for staff."""
        if not self.units:
            one = len(self.reports) == 1
            subject = "1 refused report is" if one else f"{len(self.reports)} refused reports are"
            return f"{subject} billed by a correction that was made before."
        if not self.amount:
            unit = "unit" if abs(self.units) == 1 else "units"
            return (
                f"{abs(self.units):,} {unit}, {self.reason}, without a cost: to be settled without a charge."
            )
        amount = money(abs(self.amount), self.billed.currency if self.billed else "")
        said = f"{'Credit' if self.is_credit else 'Charge'} {amount} on the next invoice: {self.description}."
        return f"{said} A difference of this period was accepted before." if self.was_accepted else said


def days(start: datetime, end: datetime) -> str:
    """Return the days of a span in words, the last one that it reaches into included: 1-30 September 2026."""
    last = end - timedelta(microseconds=1)
    if (start.year, start.month) == (last.year, last.month):
        return f"{start.day}-{last.day} {last:%B %Y}" if start.day != last.day else f"{last:%-d %B %Y}"
    first = f"{start:%-d %B}" if start.year == last.year else f"{start:%-d %B %Y}"
    return f"{first} to {last:%-d %B %Y}"


def propose(proof: Proof, *, now: datetime | None = None) -> Proposal:
    """Return the next correction that the period needs, from figures that are counted anew. Makes none.

    Raises CannotCorrect, DiscountUnclear, StripeUnavailable and StripeRejected.
    """
    now = now or clock.now()
    organization, meter = proof.organization, proof.meter
    # Read before anything else: whoever corrects meanwhile makes this number, and ours is refused.
    last = Correction.objects.filter(organization=organization, meter=meter, period_start=proof.period_start)
    numbers = list(last.order_by("number").values_list("number", "total", "state"))
    if any(state == Correction.State.FAILED for *_, state in numbers):
        raise CannotCorrect(
            "A correction of this period was refused by Stripe or taken off its invoice. See to that one first."
        )
    after, total = numbers[-1][:2] if numbers else (0, 0)
    gathered = gather([organization.pk], meters=[meter], since=proof.period_start, now=now)
    period = next((c for c in gathered.counts.values() if c.start == proof.period_start), None)
    if period is None:
        raise CannotCorrect("Nothing is known of this period.")
    figures = figures_of(period, gathered, stripe=proof.stripe, now=now)
    check_quiet(figures)
    finder = Finder(organization, meter, period, gathered, figures, now=now)
    found = finder.find()
    if found.billed and not found.billed.invoice_id:
        check_left_out(found.billed)
    was_accepted = Proof.objects.filter(pk=proof.pk, accepted_figures__isnull=False).exists()
    return replace(found, after=after, total_before=total, was_accepted=was_accepted)


def check_quiet(figures: Figures) -> None:
    """Raise CannotCorrect while anything of the period may still change what its invoices say."""
    if figures.is_open:
        raise CannotCorrect("The period is not over: what is missing may still be on its invoice.")
    if figures.is_ahead:
        raise CannotCorrect("Stripe's clock is ahead of ours: by ours the invoice is to come.")
    if figures.on_its_way:
        one = figures.on_its_way == 1
        units = "1 unit of the period is" if one else f"{figures.on_its_way:,} units of the period are"
        raise CannotCorrect(f"{units} still on the way to Stripe.")
    if figures.correcting:
        raise CannotCorrect("Another correction of the period is still on its way.")
    if figures.ledger not in {None, figures.rollups}:
        raise CannotCorrect("The ledger and its hourly sums differ: what was used has to be clear first.")
    if figures.held > figures.taken:
        raise CannotCorrect("A report is missing here: what Stripe has for certain cannot be told.")


def check_left_out(billed: Billed) -> None:
    """Raise CannotCorrect where Stripe has an invoice that was missing here, and StripeUnavailable."""
    news = fetch_invoices_of(billed.subscription_id)
    if news.repaired or news.problems:
        raise CannotCorrect("Invoices were missing or out of date here: prove the period anew first.")


class Finder:
    """Looks for the invoice's period that a correction belongs to."""

    def __init__(
        self,
        organization: Organization,
        meter: Meter,
        period: Counts,
        gathered: Gathered,
        figures: Figures,
        *,
        now: datetime,
    ) -> None:
        self.organization, self.meter, self.period, self.figures, self.now = (
            organization,
            meter,
            period,
            figures,
            now,
        )
        self.periods = gathered.periods_of(organization.pk, meter.slug)
        self.account = gathered.accounts.of(organization.pk, meter.slug)
        self.left_out = self.account.left_out(now=now)

    def find(self) -> Proposal:
        """Return the correction, but for its number. Raises CannotCorrect."""
        refused = list(
            MeterReport.objects.filter(**of(self.period.key), state=State.REJECTED, correction=None).order_by(
                "hour"
            )
        )
        missing = self.figures.missing
        if refused and (found := self.of_refused(refused)):
            return found
        if missing > 0:
            return self.of_late(missing)
        if missing < 0:
            return self.of_too_much(-missing)
        if covered := [each for each in refused if self.is_closed(each)]:
            return self.of_covered(covered)
        raise CannotCorrect("The invoices hold what was used: there is nothing to correct.")

    def of_refused(self, reports: list[MeterReport]) -> Proposal | None:
        """Those of the first invoice's period that lacks some: the rest comes after it. None where none does.

        What came too late is billed already when Stripe says that it does not count it.
        """
        by_standing: dict[Standing, list[MeterReport]] = {}
        for report in reports:
            standing = self.account.standing(self.moment_of(report), now=self.now)
            by_standing.setdefault(standing, []).append(report)
        if free := by_standing.get(Standing.FREE):
            return self.proposal(free_units(free), None, "of which nothing is billed", reports=free)
        if let_go := by_standing.get(Standing.GIVEN_UP):
            return self.proposal(
                free_units(let_go), None, "of a subscription that ended unpaid", reports=let_go
            )
        if not any(self.is_closed(each) for each in reports):
            raise CannotCorrect("The invoice that would hold them is not there: they cannot be priced.")
        for billed in [*self.account.final, *self.left_out]:
            mine = [each for each in reports if self.moment_of(each) in billed]
            units = min(free_units(mine) - max(self.surplus_of(billed), 0), self.figures.missing)
            if units > 0:
                return self.proposal(units, billed, "not counted in time", reports=mine)
        return None

    def of_covered(self, reports: list[MeterReport]) -> Proposal:
        if not Correction.objects.filter(**of(self.period.key)).settled().exists():
            raise CannotCorrect(
                "Stripe refused units, and its invoices hold as many as were used all the same."
            )
        return self.proposal(0, None, "billed before", reports=reports)

    def is_closed(self, report: MeterReport) -> bool:
        """Whether what would hold the report's units is final, or was left out."""
        return any(self.moment_of(report) in each for each in [*self.account.final, *self.left_out])

    def own(self) -> list[Billed]:
        """Return the final invoices' periods that count for this one: what another's lack is corrected there."""
        others = [each for each in self.periods if each is not self.period]
        return [
            each
            for each in self.account.final
            # One that ended before is of a period that is not at hand where there is none but this one.
            if each.end > self.period.start and owner_of(each.start, self.period, others) is self.period
        ]

    def of_late(self, missing: int) -> Proposal:
        for billed in self.own():
            short = -self.surplus_of(billed)
            if short > 0:
                return self.proposal(min(short, missing), billed, "reported late")
        for billed in self.left_out:
            short = -self.surplus_of(billed)
            if short > 0:
                return self.proposal(min(short, missing), billed, ON_NONE)
        raise CannotCorrect(
            "No invoice is short of what was reported for it: look for the one that is missing."
        )

    def of_too_much(self, over: int) -> Proposal:
        for billed in self.own():
            surplus = self.surplus_of(billed)
            if surplus > 0:
                return self.proposal(-min(surplus, over), billed, "billed twice")
        for gap in report_gaps(self.period.key):
            found = self.account.find_billed(max(gap.hour, self.period.start))
            if gap.units > 0 and found:
                return self.proposal(-min(gap.units, over), found, "billed twice")
        raise CannotCorrect("No invoice has more than was reported for it.")

    def moment_of(self, report: MeterReport) -> datetime:
        return self.account.billed_as_of(report.moment, period_start=report.period_start)

    def sent_for(self, billed: Billed) -> int:
        """Return the units that were reported for an invoice's period. Where two hold them, for the first one."""
        closed = [*self.account.final, *self.left_out]
        sent = [r for each in self.periods for r in each.sent if r.billed_as_of in billed]
        return sum(r.units for r in sent if next(each for each in closed if r.billed_as_of in each) is billed)

    def surplus_of(self, billed: Billed) -> int:
        """Return by how much an invoice's period holds more than was reported for it; below 0: less."""
        return billed.units - self.sent_for(billed) + self.corrected_in(billed, late=True)

    def corrected_in(self, billed: Billed, *, late: bool = False) -> int:
        """Return the units by which the invoice's period was corrected before; `late`: but for replaced reports."""
        rows = Correction.objects.filter(
            organization=self.organization,
            meter=self.meter,
            billed_from=billed.start,
            billed_to=billed.end,
            price_id=billed.price_id,
        ).exclude(state=Correction.State.FAILED)
        if late:
            rows = rows.filter(reports=None)
        return sum(rows.values_list("units", flat=True))

    def proposal(
        self, units: int, billed: Billed | None, reason: str, *, reports: list[MeterReport] | None = None
    ) -> Proposal:
        return Proposal(
            organization=self.organization,
            meter=self.meter,
            period_start=self.period.start,
            period_end=self.period.end,
            after=0,
            total_before=0,
            units=units,
            amount=self.amount(units, billed) if billed else 0,
            billed=billed,
            reason=reason,
            reports=tuple(report.pk for report in reports or []),
        )

    def amount(self, units: int, billed: Billed) -> int:
        """Return what all units cost by the price's tiers, less what those that are billed cost; net of discounts."""
        tiers = tiers_of({"id": billed.price_id}, self.meter)
        if tiers is None:
            raise CannotCorrect(f"What a unit costs by Stripe's price {billed.price_id} is not known here.")
        before = billed.units + self.corrected_in(billed)
        if charge(before + units, tiers) == charge(before, tiers):
            return 0
        share = share_of(billed, product_id=self.meter.product_id, is_credit=units < 0)
        return net(before + units, tiers, share=share) - net(before, tiers, share=share)


def free_units(reports: list[MeterReport]) -> int:
    return sum(report.units for report in reports)


def make(proposal: Proposal, *, by: str = "") -> Correction:
    """Keep the correction, to be sent to Stripe; one that costs nothing is settled by that.

    Where those there are bill the reports already, that is kept, and the last of them comes back.
    Raises CannotCorrect where something has changed since it was proposed, as where another process made it. A
    credit, and a charge of a period of which a difference was accepted, are made only `by` somebody who said yes.
    """
    if proposal.needs_yes and not by:
        raise CannotCorrect(f"Nobody has said yes to this {'credit' if proposal.is_credit else 'charge'}.")
    if not proposal.units:
        return cover(proposal)
    Kept = Correction.State
    try:
        with transaction.atomic():
            correction = Correction.objects.create(
                organization=proposal.organization,
                meter=proposal.meter,
                period_start=proposal.period_start,
                number=proposal.after + 1,
                units=proposal.units,
                total=proposal.total_before + proposal.units,
                amount=proposal.amount,
                currency=proposal.billed.currency if proposal.billed else "",
                reason=proposal.reason,
                description=proposal.description,
                billed_from=proposal.billed.start if proposal.billed else None,
                billed_to=proposal.billed.end if proposal.billed else None,
                price_id=proposal.billed.price_id if proposal.billed else "",
                state=Kept.PENDING if proposal.amount else Kept.FREE,
                sent_at=None if proposal.amount else clock.now(),
                made_by=by[:254],
            )
            take_over(correction, proposal)
    except IntegrityError as error:
        raise CannotCorrect("Another correction of this period has been made meanwhile.") from error
    return correction


def cover(proposal: Proposal) -> Correction:
    """Keep that the period's corrections bill the proposal's reports. Raises CannotCorrect where it is not quiet."""
    with transaction.atomic():
        mine = Correction.objects.filter(
            organization=proposal.organization, meter=proposal.meter, period_start=proposal.period_start
        )
        last = mine.select_for_update().order_by("-number")[0]
        if last.number != proposal.after:
            raise CannotCorrect("Another correction of this period has been made meanwhile.")
        take_over(last, proposal)
    return last


def take_over(correction: Correction, proposal: Proposal) -> None:
    """Mark the refused reports as billed by the correction. Raises CannotCorrect where the period is not quiet."""
    mine = MeterReport.objects.filter(
        organization=proposal.organization, meter=proposal.meter, period_start=proposal.period_start
    )
    # Locked: a report that somebody sends again at this moment is either seen here or sees its correction.
    list(mine.filter(pk__in=proposal.reports).select_for_update().values_list("pk", flat=True))
    taken = mine.filter(pk__in=proposal.reports, state=State.REJECTED, correction=None)
    if taken.update(correction=correction) != len(proposal.reports):
        raise CannotCorrect("The refused reports are being sent again.")
    under_way = mine.filter(state__in=[State.PENDING, State.SENDING, State.UNKNOWN])
    unreported = UsageRollup.objects.filter(
        organization=proposal.organization,
        meter=proposal.meter.slug,
        period_start=proposal.period_start,
        units__gt=F("reported_units"),
    )
    if under_way.exists() or unreported.exists():
        raise CannotCorrect("Units of the period are still on their way to Stripe.")
