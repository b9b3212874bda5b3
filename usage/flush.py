"""Bring what an organization has used to Stripe now, before an invoice is made that is to hold it."""

import logging
import time
from datetime import timedelta

from django.db import DatabaseError
from redis.exceptions import RedisError

from accounts import clock
from accounts.models import Organization
from billing.errors import UsageNotReported
from billing.stripe.customers import find_customer
from usage import reports, stream
from usage.models import MeterReport
from usage.models.reports import ORDER

logger = logging.getLogger(__name__)

WITHIN = timedelta(seconds=10)
PAUSE_SECONDS = 0.05  # Between two looks at what another worker has in hand.
NOT_YET = "What you have used until now could not be added up yet. Please try again in a moment."


def flush_usage(organization: Organization, *, within: timedelta = WITHIN) -> int:
    """Report all that the organization has used until now; return how many reports this call sent.

    What other workers have in hand is waited for. Raises UsageNotReported where something did not reach Stripe
    in time. Left out is what never will without a person: reports that Stripe rejected, and such that have
    been without an answer for too long to be sent again.
    """
    if find_customer(organization) is None:
        return 0
    deadline = time.monotonic() + within.total_seconds()
    try:
        store_stream(deadline)
        reports.make_reports(organization)
        return send_reports(organization, deadline)
    except (RedisError, DatabaseError) as error:
        raise UsageNotReported(NOT_YET) from error


def store_stream(deadline: float) -> None:
    """Have every event that was appended until now in the ledger. Raises UsageNotReported at the deadline."""
    drain = stream.Drain()
    newest = stream.last_id()
    try:
        while not stream.is_stored(newest):
            if not drain.run_once() and not drain.take_over():
                wait(deadline)
            elif time.monotonic() > deadline:
                raise UsageNotReported(NOT_YET)
    finally:
        drain.leave()


def send_reports(organization: Organization, deadline: float) -> int:
    """Send the organization's reports; return how many. Raises UsageNotReported where one gets no answer."""
    sent = 0
    while True:
        MeterReport.objects.release_abandoned(now=clock.now())
        waiting = MeterReport.objects.to_flush(organization, now=clock.now())
        claims = map(reports.claim, list(waiting.order_by(*ORDER).values_list("pk", flat=True)))
        tried = 0
        for report, customer_id in filter(None, claims):
            reports.send(report, customer_id=customer_id)
            tried += 1
            if report.has_no_answer:
                raise UsageNotReported(NOT_YET)
            sent += report.state == MeterReport.State.SENT
            if time.monotonic() > deadline:
                break
        if not waiting.exists():
            return sent
        if not tried:
            wait(deadline)
        elif time.monotonic() > deadline:
            logger.warning("%s has more usage than could be flushed in time", organization.ref)
            raise UsageNotReported(NOT_YET)


def wait(deadline: float) -> None:
    if time.monotonic() > deadline:
        logger.warning("Another worker has usage in hand for too long: it cannot be flushed now")
        raise UsageNotReported(NOT_YET)
    time.sleep(PAUSE_SECONDS)
