"""Units that reached Stripe, or will, after the invoice of their period was closed: no meter bills them any more.

They are not dated anew, which would move them into another period's bill. Stripe is still told of them, so that its
summaries agree with the ledger; what the invoice lacks is billed as a correction.
"""

from collections.abc import Sequence
from datetime import timedelta

from accounts import clock
from accounts.models import Organization
from billing.models import Meter
from usage.closed import ClosedPeriod, closed_periods
from usage.dating import moment_of
from usage.models import MeterReport

State = MeterReport.State
# Stripe gives whole seconds.
SECOND = timedelta(seconds=1)


def find_missed_invoice(
    report: MeterReport, periods: Sequence[ClosedPeriod] | None = None
) -> ClosedPeriod | None:
    """Return the closed period that a report's units belong to and came too late for, None where they did not.

    `periods` are those of its organization and meter, where they are at hand. By the clock alone: how many units
    an invoice lacks, its lines tell. Raises StripeUnavailable.
    """
    if report.state == State.REJECTED:
        return None  # It is on no invoice whenever it came.
    moment = report.dated_at or moment_of(report, now=clock.now())
    known = closed_periods(report.organization, report.meter, since=moment) if periods is None else periods
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
