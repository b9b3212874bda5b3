"""A sentence for staff for each fault: what it is, how many units, and where it was found."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from django.db.models import QuerySet

from billing.models import Meter
from billing.templatetags.money import money
from usage.models import Correction, MeterReport
from usage.proof.gathering import Counts, Gathered
from usage.proof.hours import HourGap, ledger_gaps, of, report_gaps, twins
from usage.proof.invoicing import Billed, Standing
from usage.proof.judging import Fault, Figures

State = MeterReport.State
MOST = 3  # Hours or rows that a sentence names.


class Explainer:
    """Words the faults of one period. What it takes to word one is looked up only where there is one."""

    def __init__(
        self, period: Counts, gathered: Gathered, figures: Figures, *, meter: Meter, now: datetime
    ) -> None:
        self.period, self.figures, self.meter, self.now = period, figures, meter, now
        key = period.key
        self.key = key
        self.account = gathered.accounts.of(key.organization_id, key.meter)

    def explain(self, faults: Iterable[Fault]) -> list[dict[str, Any]]:
        """Return the causes as the proof keeps them."""
        words: dict[str, Callable[[int], str]] = {
            "ledger_short": self.ledger_short,
            "ledger_over": self.ledger_over,
            "reports_short": self.reports_short,
            "reports_over": self.reports_over,
            "stripe_short": self.stripe_short,
            "stripe_over": self.stripe_over,
            "refused": partial(self.refused, settled=False),
            "late": self.late,
            "given_up": self.given_up,
            "invoice_short": self.invoice_short,
            "invoice_over": self.invoice_over,
            "unreported": self.unreported,
            "waiting": self.waiting,
            "unknown": self.unknown,
            "uncounted": self.uncounted,
            "to_invoice": self.to_invoice,
            "correcting": self.correcting,
            "ahead": self.ahead,
        }
        causes = []
        for fault in faults:
            is_replaced = fault.settled and fault.code == "refused"
            sentence = (
                self.refused(fault.units, settled=True) if is_replaced else words[fault.code](fault.units)
            )
            if fault.settled and fault.code not in {"late", "given_up"}:
                sentence += f" {self.how_settled()}"
            causes.append(
                {"code": fault.code, "units": fault.units, "sentence": sentence, "settled": fault.settled}
            )
        return causes

    @property
    def reports(self) -> "QuerySet[MeterReport]":
        return MeterReport.objects.filter(**of(self.key))

    def ledger_short(self, units: int) -> str:
        where = hours_of(ledger_gaps(self.key))
        return (
            f"The ledger has {many(units)} less than its hourly sums: rows are missing from the ledger{where}, "
            "or the sums were changed."
        )

    def ledger_over(self, units: int) -> str:
        gaps = ledger_gaps(self.key)
        doubled = [pair for gap in gaps[:MOST] for pair in twins(self.key, gap.hour)]
        if doubled:
            ids = " and ".join(map(str, doubled[0].ids[:MOST]))
            reason = (
                f": rows of {doubled[0].occurred_at:%Y-%m-%d %H:%M:%S} are alike but for their ids ({ids}), "
                "so one of them looks doubled"
            )
        else:
            reason = f": the sums lack what happened{hours_of(gaps)}"
        return f"The ledger has {many(units)} more than its hourly sums{reason}."

    def reports_short(self, units: int) -> str:
        where = hours_of(report_gaps(self.key))
        if self.figures.stripe is None:
            seen = ""
        elif self.figures.stripe - self.figures.reported >= units:
            seen = " Stripe has counted them: the row was lost after it was sent."
        else:
            seen = " Stripe has not counted them: the row was lost before it was sent."
        return f"A report of {many(units)} is missing{where}, which the hourly sums have as reported.{seen}"

    def reports_over(self, units: int) -> str:
        pairs = doubled_reports(self.reports, report_gaps(self.key))
        if pairs:
            named = "; ".join(" and ".join(r.identifier for r in pair) for pair in pairs[:MOST])
            reason = f": {named} hold the same units"
        else:
            reason = hours_of(report_gaps(self.key))
        return f"The reports add up to {many(units)} more than the hourly sums{reason}."

    def stripe_short(self, units: int) -> str:
        return (
            f"Stripe counted {many(units)} less than it took in reports: it took an event and dropped it later, or "
            "somebody cancelled one. Look at the meter errors."
        )

    def stripe_over(self, units: int) -> str:
        lost = max(self.figures.held - self.figures.taken, 0)
        because = (
            f" {lost:,} of them are in a report that is missing here."
            if lost
            else " A report was counted twice, or somebody else reports to this meter."
        )
        return f"Stripe counted {many(units)} more than were reported.{because}"

    def refused(self, units: int, *, settled: bool) -> str:
        rows = self.reports.filter(state=State.REJECTED, correction__isnull=not settled)
        errors = sorted({error.rstrip(".") for error in rows.values_list("last_error", flat=True)})
        count = rows.count()
        subject = "1 report" if count == 1 else f"{count} reports"
        was = "was" if count == 1 else "were"
        why = "; ".join(filter(None, errors)) or "no reason is known"
        return f"{subject} of {many(units)} {was} refused by Stripe: {why}."

    def late(self, units: int) -> str:
        late = Correction.objects.filter(**of(self.key), billed_from__isnull=False).settled()
        spans = set(late.values_list("billed_from", "billed_to"))
        if spans and not any((each.start, each.end) in spans for each in self.account.final):
            return f"{were(units)} on no invoice. {self.how_settled()}"
        return f"{many(units)} came too late for the invoice. {self.how_settled()}"

    def given_up(self, units: int) -> str:
        return (
            f"{were(units)} used on a subscription that ended because it was not paid: Stripe makes no invoice "
            "for its last period."
        )

    def how_settled(self) -> str:
        done = Correction.objects.filter(**of(self.key)).settled().order_by("number")
        said = [
            "a correction that costs nothing"
            if each.state == Correction.State.FREE
            else f"a correction of {money(each.amount, each.currency)} ({each.invoice_item})"
            for each in done
        ]
        return f"It was settled by {' and '.join(said)}." if said else ""

    def invoice_short(self, units: int) -> str:
        for billed in self.account.final:
            late = self.late_for(billed)
            if late:
                total = sum(each.units for each in late)
                return (
                    f"{billed.number or 'The invoice'} was finalized on {billed.finalized_at:%Y-%m-%d %H:%M} before "
                    f"{were(total)} reported, from {late[0].sent_at:%Y-%m-%d %H:%M} on: it is "
                    f"{many(units)} short."
                )
        missed = sum(
            r.units
            for r in self.period.sent
            if self.account.standing(r.billed_as_of, now=self.now) == Standing.MISSED
        )
        if missed:
            ended = any(each.ends for each in self.account.sold)
            why = "the subscription ended without one" if ended else "the period is over and Stripe made none"
            return f"{many(missed)} of Stripe's count are on no invoice: {why}."
        numbers = ", ".join(each.number or each.invoice_id for each in self.account.final[-MOST:])
        return f"The invoice has {many(units)} less than was reported in time ({numbers or 'none is there'})."

    def late_for(self, billed: Billed) -> list[MeterReport]:
        """Return the reports that Stripe took for an invoice's period after it had closed it."""
        sent = self.reports.filter(state=State.SENT, sent_at__gt=billed.finalized_at).order_by("sent_at")
        return [
            each
            for each in sent
            if self.account.billed_as_of(each.moment, period_start=each.period_start) in billed
        ]

    def invoice_over(self, units: int) -> str:
        numbers = ", ".join(each.number or each.invoice_id for each in self.account.final[-MOST:])
        spans = sorted((each.start, each.end) for each in self.account.final)
        twice = any(after[0] < before[1] for before, after in pairwise(spans))
        why = " Two invoices bill the same time: are there two subscriptions?" if twice else ""
        return f"The invoices have {many(units)} more than were used ({numbers}).{why}"

    def unreported(self, units: int) -> str:
        return f"{are(units)} to be put in a report: that happens within a minute."

    def waiting(self, units: int) -> str:
        oldest = self.reports.filter(state__in=[State.PENDING, State.SENDING]).order_by("created_at").first()
        since = f", since {oldest.created_at:%Y-%m-%d %H:%M}" if oldest else ""
        return f"{many(units)} {'waits' if units == 1 else 'wait'} to be sent to Stripe{since}."

    def unknown(self, units: int) -> str:
        return f"{many(units)} got no answer from Stripe: to be sent again, or settled by its count."

    def uncounted(self, units: int) -> str:
        return f"Stripe took {many(units)} within the last minutes and has yet to count them."

    def to_invoice(self, units: int) -> str:
        return f"{are(units)} for an invoice that is to come."

    def ahead(self, units: int) -> str:
        return (
            f"Stripe's clock is ahead of ours: it closed an invoice of this period already, and {many(units)} differ "
            "from it. A test clock, or the sandbox's, was moved on: nothing is to be corrected."
        )

    def correcting(self, units: int) -> str:
        one = Correction.objects.filter(**of(self.key)).under_way().first()
        trouble = f": {one.last_error}" if one and one.last_error else ""
        return f"A correction of {many(units)} is on its way to the next invoice{trouble.rstrip('.')}."


def many(units: int) -> str:
    return "1 unit" if units == 1 else f"{units:,} units"


def are(units: int) -> str:
    return f"{many(units)} {'is' if units == 1 else 'are'}"


def were(units: int) -> str:
    return f"{many(units)} {'was' if units == 1 else 'were'}"


def hours_of(gaps: Sequence[HourGap]) -> str:
    if not gaps:
        return ""
    named = ", ".join(f"{gap.hour:%Y-%m-%d %H}h ({gap.units:+,})" for gap in gaps[:MOST])
    more = f" and {len(gaps) - MOST} more hours" if len(gaps) > MOST else ""
    return f" of {named}{more}"


def doubled_reports(reports: "QuerySet[MeterReport]", gaps: Sequence[HourGap]) -> list[list[MeterReport]]:
    """Return the reports of hours with too many units that hold as many units as another, together."""
    found = []
    for gap in gaps:
        rows = list(reports.filter(hour=gap.hour).order_by("created_at", "pk"))
        by_units: dict[int, list[MeterReport]] = {}
        for row in rows:
            by_units.setdefault(row.units, []).append(row)
        found += [same for units, same in by_units.items() if len(same) > 1 and units <= gap.units]
    return found
