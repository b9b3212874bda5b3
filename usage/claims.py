"""Who sends which report: claimed, sent by one at a time, given back, and the outcome kept."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from djstripe import models as djstripe

from accounts import clock
from billing.errors import StripeUnavailable
from usage.dating import Terms, moment_of
from usage.models import MeterReport
from usage.models.reports import ORDER, has_one_in_flight

logger = logging.getLogger(__name__)

State = MeterReport.State


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a try. `to_settle`: whether it arrived is to be found out by what Stripe counted."""

    state: str
    error: str = ""
    code: str = ""
    to_settle: bool = False


SENT = Outcome(State.SENT)
TOO_OLD = Outcome(
    State.REJECTED,
    "It was too old when its turn came: Stripe takes usage of the last 35 days.",
    MeterReport.TOO_OLD,
)


def claim(report_id: UUID) -> tuple[MeterReport, str] | None:
    """Mark a report as being sent, and return it with its Stripe customer's id.

    None where another worker has it, its turn has not come, or Stripe does not know the customer yet.
    """
    claimed = claim_all([report_id])
    return (claimed[0], claimed[0].stripe_customer_id) if claimed else None


def claim_all(report_ids: Sequence[UUID]) -> list[MeterReport]:
    """Mark reports as being sent and return them: those that nobody else has, whose turn it is.

    Each is dated here, for good: the moment and the customer are stored before Stripe hears of them, so that every try
    tells the same, also where the customer was deleted since: the first try may have arrived.
    """
    now = clock.now()
    try:
        with transaction.atomic():
            rows = (
                MeterReport.objects.due(now=now)
                .select_related("organization", "meter")
                .select_for_update(skip_locked=True, of=("self",))
                .filter(~has_one_in_flight(), pk__in=report_ids)
            )
            reports = first_of_each(rows, now=now)
            customers = customers_of(reports)
            terms = Terms(customers)
            claimed = [
                report
                for report in reports
                if report.organization_id in customers and is_dated(report, now=now, terms=terms)
            ]
            for report in claimed:
                if report.first_sent_at is None or not report.stripe_customer_id:
                    report.stripe_customer_id = customers[report.organization_id]
                report.first_sent_at = report.first_sent_at or now
                report.state, report.claimed_at, report.tries = State.SENDING, now, report.tries + 1
            MeterReport.objects.bulk_update(
                claimed, ["state", "claimed_at", "tries", "first_sent_at", "dated_at", "stripe_customer_id"]
            )
    except IntegrityError:
        return []  # Another report of one of these organizations and meters was claimed at this moment.
    return claimed


def is_dated(report: MeterReport, *, now: datetime, terms: Terms) -> bool:
    """Date a report that is not; return whether that could be done. Where Stripe does not answer it waits."""
    if report.dated_at is None:
        try:
            report.dated_at = moment_of(report, now=now, terms=terms)
        except StripeUnavailable as error:
            logger.warning("Meter report %s cannot be dated: %s", report.identifier, error)
    return report.dated_at is not None


def first_of_each(reports: Iterable[MeterReport], *, now: datetime) -> list[MeterReport]:
    """Leave out the reports before which there is another of the same organization and meter."""
    found = {report.pk: report for report in reports}
    line = MeterReport.objects.in_line(now=now)
    own = line.filter(
        organization__in={report.organization_id for report in found.values()},
        meter__in={report.meter_id for report in found.values()},
    )
    heads = own.order_by("organization_id", "meter_id", *ORDER).distinct("organization_id", "meter_id")
    return [found[pk] for pk in heads.values_list("pk", flat=True) if pk in found]


def customers_of(reports: Iterable[MeterReport]) -> dict[UUID, str]:
    """Return the reports' organizations with the ids of their customers, of several the oldest."""
    known = djstripe.Customer.objects.filter(
        subscriber__in={report.organization_id for report in reports}, date_purged=None
    )
    return dict(known.order_by("-djstripe_created").values_list("subscriber_id", "id"))


def is_dated_right(report: MeterReport, *, terms: Terms | None = None) -> bool:
    """Whether the units of a claimed report are still to be dated as they are. Under the customer's lock.

    A first try's moment may be outdated by a change of plan that was in the making. A retry's never is: an earlier
    try may have told it to Stripe. Where Stripe has to be asked and does not answer, it is not known to be right.
    """
    if report.is_retry:
        return True
    try:
        return report.dated_at == moment_of(report, now=report.claimed_at or clock.now(), terms=terms)
    except StripeUnavailable as error:
        logger.warning("Whether meter report %s is dated right cannot be told: %s", report.identifier, error)
        return False


def is_too_old(report: MeterReport) -> bool:
    return report.moment < clock.now() - MeterReport.AGE_LIMIT


def keep(report: MeterReport, outcome: Outcome) -> None:
    """Store what came of a claimed report's try, unless something else has become of it meanwhile."""
    keep_all([report], outcome)


def keep_all(reports: Iterable[MeterReport], outcome: Outcome) -> None:
    now = clock.now()
    of_claim: dict[datetime | None, list[UUID]] = {}
    for report in reports:
        of_claim.setdefault(report.claimed_at, []).append(report.pk)
        report.state = outcome.state
        report.sent_at = now if outcome.state == State.SENT else None
        report.last_error, report.rejection_code = outcome.error[:500], outcome.code[:100]
        report.to_settle = outcome.to_settle
    for claimed_at, ids in of_claim.items():
        # Only over our own claim: a worker that was stalled past its lease must not undo what came after it.
        MeterReport.objects.filter(pk__in=ids, state=State.SENDING, claimed_at=claimed_at).update(
            state=outcome.state,
            sent_at=now if outcome.state == State.SENT else None,
            last_error=outcome.error[:500],
            rejection_code=outcome.code[:100],
            to_settle=outcome.to_settle,
        )


def give_back(reports: Iterable[MeterReport]) -> None:
    """Undo the claims of reports that Stripe was not told of: they wait for their turn as before."""
    for report in reports:
        own = MeterReport.objects.filter(pk=report.pk, state=State.SENDING, claimed_at=report.claimed_at)
        if report.is_retry:
            own.update(state=State.UNKNOWN, tries=F("tries") - 1)
            report.state = State.UNKNOWN
        else:
            own.update(state=State.PENDING, tries=F("tries") - 1, first_sent_at=None, dated_at=None)
            report.state = State.PENDING


def renew(report: MeterReport) -> bool:
    """Begin the lease of a claim anew; return False where the claim is ours no more."""
    now = clock.now()
    own = MeterReport.objects.filter(pk=report.pk, state=State.SENDING, claimed_at=report.claimed_at)
    changes = {"claimed_at": now} if report.is_retry else {"claimed_at": now, "first_sent_at": now}
    if not own.update(**changes):
        return False
    report.claimed_at = now
    report.first_sent_at = changes.get("first_sent_at", report.first_sent_at)
    return True
