"""Many reports in one request, by Stripe's meter event stream."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db import transaction

from billing.errors import StripeRejected, StripeUnavailable
from billing.locks import try_customer_locks
from billing.stripe.metering_stream import StreamedEvent, stream_meter_events
from usage import claims
from usage.dating import Terms
from usage.models import MeterReport

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """`told` are reports with an outcome; `refused` are claimed ones, of a request that Stripe refused as a whole."""

    told: list[MeterReport] = field(default_factory=list)
    refused: list[MeterReport] = field(default_factory=list)


def claim_and_stream(report_ids: Sequence[UUID]) -> Batch:
    """Claim reports, heads of different lines, and send those of customers with whom nothing else is being done.

    A change of plan that is being made decides the moment that a report is dated at: its customer's reports
    are given back, and nobody is waited for. The other customers' locks are held until Stripe has answered.
    """
    batch = Batch()
    reports = claims.claim_all(report_ids)
    with transaction.atomic():
        free = try_customer_locks(sorted({report.stripe_customer_id for report in reports}))
        terms = Terms({report.organization_id for report in reports})
        ready = [
            report
            for report in reports
            if report.stripe_customer_id in free and claims.is_dated_right(report, terms=terms)
        ]
        late = {report.pk for report in ready if claims.is_too_old(report) and not report.is_retry}
        going = [report for report in ready if report.pk not in late]
        outcome = stream(going) if going else claims.SENT
    claims.give_back(set(reports) - set(ready))
    too_old = [report for report in ready if report.pk in late]
    claims.keep_all(too_old, claims.TOO_OLD)
    if outcome is None:
        batch.refused = going
    else:
        claims.keep_all(going, outcome)
        batch.told = going
    batch.told = batch.told + too_old
    return batch


def stream(reports: Sequence[MeterReport]) -> claims.Outcome | None:
    """Send claimed reports; return what came of them all, None where Stripe refused the request as a whole."""
    events = [
        StreamedEvent(
            report.meter.event_name,
            report.stripe_customer_id,
            report.units,
            report.identifier,
            report.moment,
        )
        for report in reports
    ]
    try:
        stream_meter_events(events)
    except StripeUnavailable as error:
        return claims.Outcome(MeterReport.State.UNKNOWN, str(error))
    except StripeRejected as error:
        logger.warning("Stripe refused %d meter reports at once: %s", len(events), error)
        return None
    return claims.SENT
