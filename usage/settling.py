"""Reports that got no answer for too long: what Stripe counted tells whether they arrived."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.db.models import Sum

from accounts import clock
from accounts.models import Organization
from billing.models import Meter
from billing.stripe.customers import find_customer
from billing.stripe.metering import summed_usage
from usage.flush import flush_usage
from usage.models import MeterReport, MeterReportQuerySet


@dataclass(frozen=True, slots=True)
class Evidence:
    """Units of one organization and meter since a moment.

    `counted` by Stripe; `certain` in reports that Stripe took; `doubtful` in reports without an answer.
    """

    counted: int
    certain: int
    doubtful: int

    @property
    def have_arrived(self) -> bool:
        return self.counted == self.certain + self.doubtful

    @property
    def are_lost(self) -> bool:
        return self.counted == self.certain


def weigh(organization: Organization, meter: Meter, *, since: datetime) -> Evidence | None:
    """Ask Stripe what it counted; None where Stripe knows no such customer or meter. Raises StripeUnavailable.

    Its summaries lag a little, which after hours without an answer no longer matters.
    """
    customer = find_customer(organization)
    if customer is None or not meter.stripe_meter_id:
        return None
    State = MeterReport.State
    counted = summed_usage(
        meter_id=meter.stripe_meter_id,
        customer_id=customer.id,
        start=since,
        end=clock.now() + timedelta(minutes=5),
    )
    reports = MeterReport.objects.filter(organization=organization, meter=meter, period_start__gte=since)
    certain = units(reports.filter(state=State.SENT))
    return Evidence(counted, certain, units(reports.filter(state__in=[State.UNKNOWN, State.SENDING])))


def units(reports: MeterReportQuerySet) -> int:
    return reports.aggregate(total=Sum("units"))["total"] or 0


def way_out(
    organization: Organization, reports: list[MeterReport], evidence: Evidence
) -> tuple[str, Callable[[], None]] | None:
    """Return what would settle the reports, and the sentence that says so; None where the figures are unclear."""
    ids = [report.pk for report in reports]
    if evidence.have_arrived:
        return "Note that they arrived.", partial(note_arrival, ids)
    if evidence.are_lost:
        return "Send them again.", partial(send_again, organization, ids)
    return None


def note_arrival(ids: Sequence[UUID]) -> None:
    unanswered = MeterReport.objects.filter(pk__in=ids, state=MeterReport.State.UNKNOWN)
    unanswered.update(state=MeterReport.State.SENT, sent_at=clock.now(), last_error="")


def send_again(organization: Organization, ids: Sequence[UUID]) -> None:
    """Send reports of which Stripe has nothing, or that it refused. Raises UsageNotReported."""
    State = MeterReport.State
    again = MeterReport.objects.filter(pk__in=ids, state__in=[State.UNKNOWN, State.REJECTED], correction=None)
    again.update(state=State.PENDING, first_sent_at=None)
    flush_usage(organization)
