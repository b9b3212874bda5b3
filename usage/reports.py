"""From rollups to Stripe's meters, by way of an outbox: nothing reported twice, nothing left out."""

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from accounts import clock
from accounts.models import Organization
from billing.errors import CustomerBusy, StripeRejected, StripeUnavailable
from billing.locks import customer_lock
from billing.stripe.metering import send_meter_event
from billing.stripe.metering_stream import MOST_AT_ONCE
from usage import alerts, claims, streaming
from usage.claims import SENT, TOO_OLD, Outcome, claim, is_dated_right, is_too_old, keep
from usage.models import MeterReport, UsageRollup

__all__ = ["claim", "make_reports", "send", "send_due_reports"]

logger = logging.getLogger(__name__)

State = MeterReport.State
# Organization, meter, hour and the start of the quota period.
Key = tuple[UUID, str, datetime, datetime]

# A report's units: Stripe takes no value of more than 15 digits.
MOST_UNITS = 10**15 - 1
GIVE_UP_AFTER = 3  # Tries in a row without an answer: Stripe is down, and the next run is soon.
RUN_FOR = timedelta(minutes=1)  # Then the next run goes on; several at once share the work.
# For a customer with whom something else is being done. Waited for past its lease a report would count as one that
# Stripe may have been told of, and keep a moment that a change of plan has made wrong.
WAIT_FOR = timedelta(seconds=10)
# With more than this many due, Stripe's stream is worth that it tells of what is wrong only later. Each of its requests
# takes one report of each organization and meter: for a few of them it would save nothing.
STREAM_ABOVE = 100
STREAM_AT_LEAST = 10


def make_reports(organization: Organization | None = None) -> int:
    """Put the units that no report holds yet into the outbox; return how many reports that made or added to.

    The rollups are marked in the same transaction, locked, so that two runs at once share the work. One
    organization's own run waits for the others: then all it had at the start is in reports.

    Left out is what a meter counted that there is no more: one event that came after it would keep back all the rest.
    """
    unreported = UsageRollup.objects.to_report()
    with transaction.atomic():
        if organization is None:
            rollups = list(unreported.select_for_update(skip_locked=True).in_order()[:10_000])
        else:
            rollups = list(unreported.filter(organization=organization).select_for_update().in_order())
        sums: dict[Key, int] = defaultdict(int)
        for rollup in rollups:
            key = (rollup.organization_id, rollup.meter, rollup.hour, rollup.period_start)
            sums[key] += rollup.units - rollup.reported_units
            rollup.reported_units = rollup.units
        untold = untold_reports(sums)
        made: list[MeterReport] = []
        for key, units in sums.items():
            added = 0
            if key in untold:
                added = min(units, MOST_UNITS - untold[key].units)
                untold[key].units += added
            made += new_reports(key, units - added)
        MeterReport.objects.bulk_update(untold.values(), ["units"], batch_size=1000)
        MeterReport.objects.bulk_create(made, batch_size=1000)
        UsageRollup.objects.bulk_update(rollups, ["reported_units"], batch_size=1000)
        alerts.note_crossings((organization_id, meter) for organization_id, meter, _, _ in sums)
    return len(untold) + len(made)


def new_reports(key: Key, units: int) -> Iterator[MeterReport]:
    """Yield as few reports as can hold the units."""
    organization_id, meter, hour, period_start = key
    for start in range(0, units, MOST_UNITS):
        yield MeterReport(
            organization_id=organization_id,
            meter_id=meter,
            hour=hour,
            period_start=period_start,
            units=min(units - start, MOST_UNITS),
        )


def untold_reports(keys: Collection[Key]) -> dict[Key, MeterReport]:
    """Return, locked, reports of these hours that Stripe has never been told of and that are not full.

    More units can go into them. So an outage of Stripe leaves one report an hour, and not one for each time that
    this runs.
    """
    reports = MeterReport.objects.filter(
        state=State.PENDING,
        tries=0,
        units__lt=MOST_UNITS,
        organization__in={key[0] for key in keys},
        meter__in={key[1] for key in keys},
        hour__in={key[2] for key in keys},
    )
    found = reports.select_for_update(skip_locked=True).order_by("pk")
    by_key = {(each.organization_id, each.meter_id, each.hour, each.period_start): each for each in found}
    return {key: by_key[key] for key in keys if key in by_key}


def send_due_reports(*, limit: int = 10_000, within: timedelta = RUN_FOR) -> int:
    """Send what is due; return how many reports reached Stripe.

    Those of one organization and meter go in the order of their hours, each after the one before has its answer.
    One that gets none holds up its own organization and meter, and no other. Several tries in a row without an
    answer end the run.
    """
    MeterReport.objects.release_abandoned(now=clock.now())
    deadline = time.monotonic() + within.total_seconds()
    is_much = MeterReport.objects.due(now=clock.now())[: STREAM_ABOVE + 1].count() > STREAM_ABOVE
    sent = tried = failures = 0
    seen: set[UUID] = set()
    while tried < limit and failures < GIVE_UP_AFTER and time.monotonic() < deadline:
        heads = next_heads(without=seen, limit=min(MOST_AT_ONCE, limit - tried))
        if not heads:
            return sent
        # What is still first in its line when the next heads are looked for has had its try in this run.
        seen.update(heads)
        if is_much and len(heads) >= STREAM_AT_LEAST:
            outcomes = send_many(heads)
            tried, sent = tried + len(heads), sent + outcomes.count(State.SENT)
            failures = failures + 1 if State.UNKNOWN in outcomes else 0
            continue
        for report_id in heads:
            tried += 1
            claimed = claim(report_id)
            if claimed is None:
                continue
            report, customer_id = claimed
            send(report, customer_id=customer_id)
            sent += report.state == State.SENT
            failures = failures + 1 if report.has_no_answer else 0
            if failures == GIVE_UP_AFTER or time.monotonic() > deadline:
                break
    if failures >= GIVE_UP_AFTER:
        logger.warning("Stripe does not answer: the remaining meter reports wait for the next run")
    return sent


def next_heads(*, without: set[UUID], limit: int) -> list[UUID]:
    """Return whose turn it is: one report of an organization and meter at most, those first that were never tried.

    Ones that Stripe never answers must not stand before all others in every run, nor before what others have
    further back.
    """
    heads = MeterReport.objects.heads(now=clock.now()).exclude(pk__in=without).order_by("tries", "hour", "pk")
    new = list(heads.filter(tries=0).values_list("pk", flat=True)[:limit])
    return new or list(heads.values_list("pk", flat=True)[:limit])


def send_many(report_ids: Sequence[UUID]) -> list[str]:
    """Send reports of different organizations and meters in one request; return the states that they came to.

    Where Stripe refuses the request as a whole they go one by one, so that the bad is told from the good.
    """
    batch = streaming.claim_and_stream(report_ids)
    failures = 0
    for number, report in enumerate(batch.refused):
        if failures == GIVE_UP_AFTER:
            claims.give_back(batch.refused[number:])
            break
        if claims.renew(report):
            send(report, customer_id=report.stripe_customer_id)
            failures = failures + 1 if report.has_no_answer else 0
    return [report.state for report in (*batch.told, *batch.refused)]


def send(report: MeterReport, *, customer_id: str) -> None:
    """Send a claimed report and store the outcome. Safe to repeat: the identifier and the moment stay the same.

    Under the customer's lock: a change of plan that is being made decides which moment is right. Where it is another
    than the one the report was dated at, the report is given back and dated anew at its next turn. So it is where
    the lock is not free in time.
    """
    try:
        with customer_lock(customer_id, within=WAIT_FOR):
            if not is_dated_right(report):
                claims.give_back([report])
                return
            if is_too_old(report) and not report.is_retry:
                keep(report, TOO_OLD)
                return
            send_meter_event(
                event_name=report.meter.event_name,
                customer_id=customer_id,
                value=report.units,
                identifier=report.identifier,
                timestamp=report.moment,
            )
        outcome = SENT
    except CustomerBusy:
        claims.give_back([report])
        return
    except StripeUnavailable as error:
        outcome = Outcome(State.UNKNOWN, str(error))
    except StripeRejected as error:
        outcome = refusal(report, error)
    keep(report, outcome)


def refusal(report: MeterReport, error: StripeRejected) -> Outcome:
    """Return what a refusal means. That of a retry is no news of the try before, which may have arrived.

    Nor is one that is ahead of Stripe's clock refused for good: it is sent again once it is settled that it did not
    arrive, an hour later.
    """
    logger.error("Stripe rejected meter report %s: %s", report.identifier, error)
    is_ahead = error.param == "timestamp" and not is_too_old(report)
    if report.is_retry or is_ahead:
        return Outcome(State.UNKNOWN, str(error), to_settle=True)
    code = MeterReport.TOO_OLD if error.param == "timestamp" and is_too_old(report) else error.code
    return Outcome(State.REJECTED, str(error), code)
