"""Usage that Stripe took and then did not count, told of later by thin events: which reports were it?"""

import logging
from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from accounts import clock
from billing.errors import StripeRejected
from billing.models import MeterErrorSample, ThinEvent
from usage.evidence import SUMMARIES_LAG, Minute, which_sum_up
from usage.models import MeterReport
from usage.settling import put_back

logger = logging.getLogger(__name__)

State = MeterReport.State

# Stripe judges an event within minutes of taking it, and our clock is not Stripe's.
JUDGED_WITHIN = timedelta(hours=1)
SLACK = timedelta(minutes=5)
# Stripe's summaries tell nothing of usage that a meter would not take any more.
LOOK_BACK = MeterReport.AGE_LIMIT
MOST_ASKED = 500  # Minutes that Stripe is asked about for one event, in one run.


def note_rejected(event: ThinEvent, samples: Sequence[MeterErrorSample]) -> int:
    """Mark the reports that an event's samples name as rejected; return how many that changed. Safe to repeat.

    Whatever state they are in: Stripe has judged them. A resent one has another identifier, and stays.
    """
    named = {}
    for sample in samples:
        parsed = MeterReport.parse_identifier(sample.identifier)
        if parsed:
            named[parsed] = sample
    changed = 0
    with transaction.atomic():
        reports = MeterReport.objects.filter(pk__in={pk for pk, _ in named}, refused_at=None)
        for report in reports.select_for_update().order_by("pk"):
            told = named.get((report.pk, report.resends))
            if told:
                mark(report, event, code=told.code, message=told.message)
                changed += 1
    return changed


def mark(report: MeterReport, event: ThinEvent, *, code: str, message: str) -> None:
    report.state, report.refused_at, report.refused_in = State.REJECTED, clock.now(), event
    report.rejection_code, report.last_error = code[:100], message[:500]
    report.to_settle = False
    report.save(
        update_fields=["state", "refused_at", "refused_in", "rejection_code", "last_error", "to_settle"]
    )
    logger.error(
        "Stripe does not count meter report %s, %d units: %s", report.identifier, report.units, message
    )


def put_back_ahead() -> int:
    """Put back in line what Stripe took and refused because by its clock it was to come; return how many.

    An hour later, and only those that Stripe named: of the others it is a conclusion that they were refused.
    """
    refused = MeterReport.objects.filter(
        state=State.REJECTED, rejection_code=MeterReport.AHEAD, correction=None
    )
    ripe = refused.filter(refused_at__lte=clock.now() - JUDGED_WITHIN).exclude(refused_in=None)
    named: dict[str, set[str]] = {}
    ids = []
    for report in ripe.select_related("refused_in"):
        event = report.refused_in
        if event is None:
            continue
        if event.id not in named:
            named[event.id] = {sample.identifier for sample in event.samples}
        if report.identifier in named[event.id]:
            ids.append(report.pk)
    return put_back(ids) if ids else 0


def unnamed_count(event: ThinEvent) -> int:
    """Return how many of the meter events that Stripe rejected we cannot put a report to."""
    known = MeterReport.objects.filter(refused_in=event)
    named = {(pk, resends) for pk, resends in known.values_list("pk", "resends")}
    # Samples that are not of ours, or were marked by an event before this one.
    others = sum(MeterReport.parse_identifier(each.identifier) not in named for each in event.samples)
    return max((event.error_count or 0) - len(named) - others, 0)


def with_unnamed() -> list[tuple[ThinEvent, int]]:
    """Return the meter errors that are about more reports than are known to be, with how many."""
    since = clock.now() - LOOK_BACK
    events = ThinEvent.objects.meter_errors().filter(created__gte=since).exclude(fetched_at=None)
    counts = ((event, unnamed_count(event)) for event in events)
    return [(event, count) for event, count in counts if count]


def find_unnamed() -> int:
    """Find the rejected reports that no sample names, by what Stripe's summaries lack; return how many were found.

    Raises StripeUnavailable.
    """
    before = clock.now() - SUMMARIES_LAG
    return sum(look_for(event, count) for event, count in with_unnamed() if event.created <= before)


def look_for(event: ThinEvent, count: int) -> int:
    """Mark the reports that an event must be about and does not name: of `count` at most, those without a doubt."""
    found: dict[Minute, list[MeterReport]] = {}
    for report in suspects(event):
        found.setdefault(Minute.of(report), []).append(report)
    missing: list[MeterReport] = []
    for minute, reports in list(found.items())[:MOST_ASKED]:
        missing += uncounted(minute, reports)
    if len(missing) > count:
        logger.warning("Stripe's summaries lack more reports than event %s tells of", event.id)
        return 0
    code = ", ".join(event.codes)
    message = f"{event.summary or 'Stripe rejected it.'} Found by what Stripe's summaries lack."
    changed = 0
    for report in missing:
        with transaction.atomic():
            own = MeterReport.objects.select_for_update().filter(pk=report.pk, state=State.SENT)
            still = own.filter(sent_at=report.sent_at, refused_at=None).first()
            if still:
                mark(still, event, code=code, message=message)
                changed += 1
    return changed


def suspects(event: ThinEvent) -> list[MeterReport]:
    """Return the reports that Stripe took when it came upon the errors, in any order.

    Where they are too many for one run, others have their turn in the next.
    """
    start, end = event.validated_between or (event.created, event.created)
    taken = Q(sent_at__gte=start - JUDGED_WITHIN, sent_at__lte=end + SLACK)
    reports = MeterReport.objects.filter(taken, state=State.SENT)
    if event.related_id:
        reports = reports.filter(meter__stripe_meter_id=event.related_id)
    return list(reports.select_related("organization", "meter").order_by("?"))


def uncounted(minute: Minute, suspected: Sequence[MeterReport]) -> list[MeterReport]:
    """Return which of the suspected reports Stripe's sum of the minute lacks without a doubt."""
    reports = list(minute.reports())
    if any(report.state in {State.UNKNOWN, State.SENDING} for report in reports):
        return []
    before = clock.now() - SUMMARIES_LAG
    if any(report.sent_at and report.sent_at > before for report in reports):
        return []
    try:
        counted = minute.counted()
    except StripeRejected as error:
        logger.warning("Stripe cannot tell what it counted of %s: %s", minute.organization.ref, error)
        return []
    if counted is None:
        return []
    taken = sum(report.units for report in reports if report.state == State.SENT)
    verdicts = which_sum_up([report.units for report in suspected], taken - counted)
    pairs = zip(suspected, verdicts or [], strict=bool(verdicts))
    return [report for report, is_missing in pairs if is_missing]
