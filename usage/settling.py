"""Reports that got no answer for too long: what Stripe counted tells whether they arrived."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, Sum

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeRejected, StripeUnavailable
from billing.models import Meter
from billing.stripe.customers import find_customer
from billing.stripe.metering import summed_usage
from usage import claims
from usage.evidence import SUMMARIES_LAG, Minute, some_that_sum_up, which_sum_up
from usage.flush import flush_usage
from usage.models import MeterReport, MeterReportQuerySet

logger = logging.getLogger(__name__)

State = MeterReport.State
GIVE_UP_AFTER = 3  # Questions without an answer: Stripe is down, and the next run is in an hour.


def settle_unanswered(organization: Organization | None = None) -> Counter[str]:
    """Decide each report without an answer by what Stripe counted in the minute it is dated at.

    Those of one organization, or all. Returns how many arrived, are lost and are left to a person: what fits in no way
    is not guessed. One that is lost is sent again, under the identifier it has: were the figures wrong, Stripe would
    most likely know it still. Raises StripeUnavailable where Stripe does not answer several times; what was decided
    until then stays.
    """
    now = clock.now()
    waiting = MeterReport.objects.unanswered(now=now).filter(claimed_at__lte=now - SUMMARIES_LAG)
    reports = waiting.select_related("organization", "meter").order_by("hour", "created_at")
    if organization:
        reports = reports.filter(organization=organization)
    ripe: dict[Minute, list[MeterReport]] = {}
    for report in reports:
        ripe.setdefault(Minute.of(report), []).append(report)
    outcomes: Counter[str] = Counter()
    failures = 0
    for minute, rows in ripe.items():
        try:
            outcomes.update(settle(minute, rows))
        except StripeUnavailable:
            failures += 1
            logger.warning("Stripe does not tell what arrived of %s", minute.organization.ref, exc_info=True)
            outcomes["open"] += len(rows)
            if failures == GIVE_UP_AFTER:
                raise
    return outcomes


def settle(minute: Minute, ripe: Sequence[MeterReport]) -> Counter[str]:
    """Decide the reports of one minute. `ripe` are those whose last try is long enough ago."""
    before = clock.now() - SUMMARIES_LAG
    reports = list(minute.reports())
    certain = [report for report in reports if report.state == State.SENT]
    doubtful = [report for report in reports if report.state in {State.UNKNOWN, State.SENDING}]
    # The summaries may not hold these yet: their absence would be taken for that of others.
    if any(report.sent_at and report.sent_at > before for report in certain):
        return Counter(open=len(ripe))
    if any(report.claimed_at and report.claimed_at > before for report in doubtful):
        return Counter(open=len(ripe))
    try:
        counted = minute.counted()
    except StripeRejected as error:
        logger.warning("Stripe cannot tell what arrived of %s: %s", minute.organization.ref, error)
        counted = None
    if counted is None:
        return Counter(open=len(ripe))
    taken = sum(report.units for report in certain)
    verdicts = judge(doubtful, counted - taken, ripe)
    figures = f"of {minute} Stripe counts {counted:,}; {taken:,} were taken for certain"
    # All at once: what is decided of one holds by what is of the others.
    with transaction.atomic():
        return Counter(decide(each, verdicts.get(each.pk, NOT_TOLD), figures) for each in ripe)


class Verdict(NamedTuple):
    """Whether a report arrived, None where it cannot be told. `any_will_do`: it, or another in its place."""

    has_arrived: bool | None
    any_will_do: bool = False


NOT_TOLD = Verdict(None)


def judge(doubtful: list[MeterReport], total: int, ripe: Sequence[MeterReport]) -> dict[UUID, Verdict]:
    """Return which of a minute's doubtful reports make up the `total` that Stripe has of them.

    Where several combinations do, which it was makes no difference for the bill, if all are of one period and none is
    tried again meanwhile: one of them is chosen.
    """
    units = [report.units for report in doubtful]
    verdicts = which_sum_up(units, total) or [None] * len(doubtful)
    periods, waiting = {report.period_start for report in doubtful}, {report.pk for report in ripe}
    chosen = None
    if None in verdicts and len(periods) == 1 and all(report.pk in waiting for report in doubtful):
        chosen = some_that_sum_up(units, total)
    return {
        report.pk: Verdict(chosen[place], any_will_do=True)
        if verdict is None and chosen
        else Verdict(verdict)
        for place, (report, verdict) in enumerate(zip(doubtful, verdicts, strict=True))
    }


def decide(report: MeterReport, verdict: Verdict, figures: str) -> str:
    """Store what was found of one report; return it in a word."""
    own = MeterReport.objects.filter(pk=report.pk, state=State.UNKNOWN, claimed_at=report.claimed_at)
    if verdict.has_arrived is None:
        own.update(settled_as=f"open: {figures}, which fits in several ways or in none")
        return "open"
    word = "arrived" if verdict.has_arrived else "lost"
    logger.warning("Meter report %s without an answer: %s, %s", report.identifier, word, figures)
    found = f"{word}: {figures}"
    if verdict.any_will_do:
        found += ", by this or another as good"
    if verdict.has_arrived:
        # When exactly it arrived nobody knows: at the last try at the latest.
        own.update(
            state=State.SENT, sent_at=F("claimed_at"), last_error="", to_settle=False, settled_as=found
        )
    elif claims.is_too_old(report):
        outcome = claims.TOO_OLD
        own.update(
            state=State.REJECTED,
            last_error=outcome.error,
            rejection_code=outcome.code,
            to_settle=False,
            settled_as=found,
        )
    else:
        # Where another may have been lost instead, Stripe may have this one's identifier, and pass it over.
        own.update(**FRESH_START, resends=F("resends") + int(verdict.any_will_do), settled_as=found)
    return word


# No try of a report is in doubt any more: it is dated and sent as if for the first time.
FRESH_START = {"state": State.PENDING, "first_sent_at": None, "dated_at": None, "to_settle": False}


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

    For a person to judge by, and for no program: its summaries lag, so that what others of these reports lack may
    look like what is in doubt.
    """
    customer = find_customer(organization)
    if customer is None or not meter.stripe_meter_id:
        return None
    counted = summed_usage(
        meter_id=meter.stripe_meter_id,
        customer_id=customer.id,
        start=since,
        end=clock.now() + timedelta(minutes=5),
    )
    # By the moments that Stripe was told, which is how it counts: units of before may be dated after a change of plan.
    begin = since.replace(second=0, microsecond=0)
    reports = MeterReport.objects.filter(organization=organization, meter=meter)
    reports = reports.dated(begin, clock.now() + timedelta(minutes=5))
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
    unanswered = MeterReport.objects.filter(pk__in=ids, state=State.UNKNOWN)
    unanswered.update(
        state=State.SENT,
        sent_at=F("claimed_at"),
        last_error="",
        to_settle=False,
        settled_as="arrived: decided by staff",
    )


def send_again(organization: Organization, ids: Sequence[UUID]) -> None:
    """Send reports of which Stripe has nothing, or that it refused. Raises UsageNotReported."""
    put_back(ids)
    flush_usage(organization)


def put_back(ids: Sequence[UUID]) -> int:
    """Put reports without an answer and rejected ones back in line; return how many.

    What a correction bills stays as it is. One that Stripe took and refused later gets another identifier: under
    the old one Stripe would pass it over as a duplicate of what it does not count.
    """
    again = MeterReport.objects.filter(pk__in=ids, state__in=[State.UNKNOWN, State.REJECTED], correction=None)
    refused = Q(state=State.REJECTED, refused_at__isnull=False)
    fresh = {**FRESH_START, "last_error": "", "rejection_code": "", "sent_at": None}
    count = again.filter(refused).update(
        **fresh, resends=F("resends") + 1, refused_at=None, refused_in=None, settled_as=""
    )
    return count + again.update(**fresh)
