"""From rollups to Stripe's meters, by way of an outbox: nothing reported twice, nothing left out."""

import logging
from collections import defaultdict
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.locks import customer_lock
from billing.models import Entitlement
from billing.stripe.customers import find_customer
from billing.stripe.metering import send_meter_event
from billing.subscriptions import metered_since
from usage import alerts
from usage.models import MeterReport, UsageRollup

logger = logging.getLogger(__name__)

GIVE_UP_AFTER = 3  # Reports in a row without an answer: Stripe is down, and the next run is soon.


def make_reports(organization: Organization | None = None) -> int:
    """Put the units that no report holds yet into the outbox; return how many reports that made.

    The rollups are marked in the same transaction, locked, so that two runs at once share the work. One
    organization's own run waits for the others: then all it had at the start is in reports.
    """
    unreported = UsageRollup.objects.unreported()
    with transaction.atomic():
        if organization is None:
            rollups = list(unreported.select_for_update(skip_locked=True).order_by("pk")[:10_000])
        else:
            rollups = list(unreported.filter(organization=organization).select_for_update().order_by("pk"))
        sums: dict[tuple[UUID, str, datetime, datetime], int] = defaultdict(int)
        for rollup in rollups:
            key = (rollup.organization_id, rollup.meter, rollup.hour, rollup.period_start)
            sums[key] += rollup.units - rollup.reported_units
            rollup.reported_units = rollup.units
        MeterReport.objects.bulk_create(
            MeterReport(
                organization_id=organization,
                meter_id=meter,
                hour=hour,
                period_start=period_start,
                units=units,
            )
            for (organization, meter, hour, period_start), units in sums.items()
        )
        UsageRollup.objects.bulk_update(rollups, ["reported_units"], batch_size=1000)
        alerts.note_crossings((organization, meter) for organization, meter, _, _ in sums)
    return len(sums)


def send_due_reports(*, limit: int = 1000) -> int:
    """Send what is due; return how many reports reached Stripe.

    One report's failure does not hold up the others; several in a row without an answer end the run.
    """
    MeterReport.objects.release_abandoned(now=clock.now())
    sent = failures = 0
    # The least tried first: a few that Stripe never answers must not stand before all others in every run.
    due = MeterReport.objects.due(now=clock.now()).order_by("tries", "hour", "created_at")
    for report_id in list(due.values_list("pk", flat=True)[:limit]):
        claimed = claim(report_id)
        if claimed is None:
            continue
        report, customer_id = claimed
        send(report, customer_id=customer_id)
        sent += report.state == MeterReport.State.SENT
        failures = failures + 1 if report.state == MeterReport.State.UNKNOWN else 0
        if failures == GIVE_UP_AFTER:
            logger.warning("Stripe does not answer: the remaining meter reports wait for the next run")
            break
    return sent


def claim(report_id: UUID) -> tuple[MeterReport, str] | None:
    """Mark a report as being sent, and return it with its Stripe customer's id.

    None where another worker has it, its turn has not come, or Stripe does not know the customer yet.
    """
    now = clock.now()
    State = MeterReport.State
    try:
        with transaction.atomic():
            report = (
                MeterReport.objects.due(now=now)
                .select_related("organization", "meter")
                .select_for_update(skip_locked=True, of=("self",))
                .filter(pk=report_id)
                .first()
            )
            customer = find_customer(report.organization) if report else None
            if report is None or customer is None:
                return None
            report.first_sent_at = report.first_sent_at or now
            report.state, report.claimed_at, report.tries = State.SENDING, now, report.tries + 1
            report.save(update_fields=["state", "claimed_at", "tries", "first_sent_at"])
    except IntegrityError:
        return None  # Another report of this organization and meter is in flight.
    return report, customer.id


def send(report: MeterReport, *, customer_id: str) -> None:
    """Send a claimed report and store the outcome. Safe to repeat: the identifier stays the same.

    Under the customer's lock: a change of plan that is being made decides which moment is right.
    """
    State = MeterReport.State
    try:
        with customer_lock(customer_id):
            send_meter_event(
                event_name=report.meter.event_name,
                customer_id=customer_id,
                value=report.units,
                identifier=report.identifier,
                timestamp=moment_of(report),
            )
        report.state, report.sent_at, report.last_error = State.SENT, clock.now(), ""
    except StripeUnavailable as error:
        report.state, report.last_error = State.UNKNOWN, str(error)
    except StripeRejected as error:
        report.state, report.last_error = State.REJECTED, str(error)[:500]
        logger.error("Stripe rejected meter report %s: %s", report.identifier, error)
    # Only over our own claim: a worker that was stalled past its lease must not undo what came after it.
    outcome = {"state": report.state, "sent_at": report.sent_at, "last_error": report.last_error}
    MeterReport.objects.filter(pk=report.pk, state=State.SENDING, claimed_at=report.claimed_at).update(
        **outcome
    )


def moment_of(report: MeterReport) -> datetime:
    """Return the moment to report the units at, such that an invoice to come holds them.

    That is inside their hour and their quota period. Where the subscription's price was changed since, what
    lies before the change has been invoiced: units of the same month that had not been reported by then are
    dated after it.
    """
    # An invoice made in this second holds what lies before it: in an hour's first one that is the hour before.
    past = clock.now() - timedelta(seconds=1)
    own = max(min(report.timestamp, past), report.period_start)
    entitlement = Entitlement.objects.get(organization=report.organization)
    is_this_month = (
        report.period_start == entitlement.period_start
        or report.period_start.isoformat() in entitlement.carried_from
    )
    since = metered_since(report.organization, report.meter) if is_this_month else None
    # From the period's end on it is a renewal that made the new one, and usage stays in the old.
    if since is None or since >= entitlement.period_end:
        return own
    return max(own, since)
