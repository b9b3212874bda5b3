"""Units that reached Stripe, or will, after the invoice of their period was closed: no meter bills them any more.

They are not dated anew, which would move them into another period's bill. Stripe is still told of them, so that its
summaries agree with the ledger; what the invoice lacks is billed as a correction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Meter, PublishedPrice
from billing.subscriptions import from_timestamp
from usage.dating import moment_of
from usage.models import MeterReport

State = MeterReport.State
# Stripe gives whole seconds.
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """What an invoice has billed of a meter for good: the units dated from `start` up to and without `end`."""

    invoice_id: str
    start: datetime
    end: datetime
    finalized_at: datetime

    def holds(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def closed_periods(organization: Organization, meter: Meter) -> list[ClosedPeriod]:
    """Return what the organization's invoices have closed of a meter, by the mirror; a void one closed nothing."""
    prices = set(PublishedPrice.objects.filter(meter=meter).values_list("stripe_price_id", flat=True))
    invoices = djstripe.Invoice.objects.filter(customer__subscriber=organization)
    found = set()
    for data in invoices.exclude(stripe_data__status__in=["draft", "void"]).values_list(
        "stripe_data", flat=True
    ):
        finalized_at = data["status_transitions"]["finalized_at"]
        if finalized_at is None:
            continue
        for start, end in metered_spans(data, meter, prices=prices):
            found.add(ClosedPeriod(data["id"], start, end, from_timestamp(finalized_at)))
    return sorted(found, key=lambda period: (period.start, period.finalized_at))


def metered_spans(
    invoice: dict[str, Any], meter: Meter, *, prices: set[str]
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the spans of time of which an invoice's lines bill the meter's units."""
    for line in invoice["lines"]["data"]:
        details = (line.get("pricing") or {}).get("price_details") or {}
        if details.get("product") == meter.product_id or details.get("price") in prices:
            yield from_timestamp(line["period"]["start"]), from_timestamp(line["period"]["end"])


def find_missed_invoice(
    report: MeterReport, periods: Sequence[ClosedPeriod] | None = None
) -> ClosedPeriod | None:
    """Return the closed period that a report's units belong to and came too late for, None where they did not.

    `periods` are those of its organization and meter, where they are at hand. By the clock alone: how many units
    an invoice lacks, its lines tell.
    """
    if report.state == State.REJECTED:
        return None  # It is on no invoice whenever it came.
    known = closed_periods(report.organization, report.meter) if periods is None else periods
    moment = report.dated_at or moment_of(report, now=clock.now())
    came_at = report.sent_at or clock.now()
    return next(
        (each for each in known if each.holds(moment) and came_at >= each.finalized_at + SECOND), None
    )


def is_too_late(report: MeterReport) -> bool:
    """Whether the invoice that should hold the report's units was closed before Stripe had them, or is by now."""
    return find_missed_invoice(report) is not None


def too_late_reports(organization: Organization, meter: Meter) -> list[tuple[MeterReport, ClosedPeriod]]:
    """Return the reports that came too late, each with the period that its units are missing in, oldest first."""
    periods = closed_periods(organization, meter)
    if not periods:
        return []
    reports = MeterReport.objects.filter(organization=organization, meter=meter).exclude(state=State.REJECTED)
    reports = reports.select_related("organization", "meter").order_by("hour", "created_at")
    found = ((report, find_missed_invoice(report, periods)) for report in reports.iterator(chunk_size=2000))
    return [(report, period) for report, period in found if period]
