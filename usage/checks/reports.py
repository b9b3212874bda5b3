from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db.models import F, Q

from accounts import clock
from accounts.models import Organization
from billing.doctor import Finding, Fix, Severity, check
from billing.models import Meter
from usage.flush import flush_usage
from usage.models import MeterReport, MeterReportQuerySet, UsageRollup
from usage.rejections import with_unnamed
from usage.settling import send_again, way_out, weigh

STUCK_AFTER = MeterReport.RESEND_LIMIT
# Stripe takes usage that is up to 35 days old.
LIMIT = timedelta(days=35)
AGEING = timedelta(days=30)


class Group(NamedTuple):
    """Reports of one organization and meter: what is the matter with them is one matter."""

    organization: Organization
    meter: Meter
    reports: list[MeterReport]

    @property
    def units(self) -> int:
        return sum(report.units for report in self.reports)

    @property
    def oldest(self) -> datetime:
        return min(report.hour for report in self.reports)

    @property
    def subject(self) -> str:
        return f"{self.organization.ref}/{self.meter.slug}"

    @property
    def what(self) -> str:
        return (
            f"Reports of {self.units:,} {self.meter.unit}s of {self.organization}, "
            f"the oldest of {self.oldest:%Y-%m-%d %H:%M} UTC"
        )


def grouped(reports: MeterReportQuerySet) -> Iterable[Group]:
    groups: dict[tuple[object, object], list[MeterReport]] = defaultdict(list)
    for report in reports.select_related("organization", "meter").order_by("hour"):
        groups[report.organization_id, report.meter_id].append(report)
    return [Group(rows[0].organization, rows[0].meter, rows) for rows in groups.values()]


@check("stuck-reports", "Usage that has been waiting to reach Stripe for 20 hours.")
def stuck_reports() -> Iterator[Finding]:
    State = MeterReport.State
    before = clock.now() - STUCK_AFTER
    waiting = Q(state__in=[State.PENDING, State.SENDING], created_at__lt=before)
    younger = Q(state=State.UNKNOWN, created_at__lt=before, first_sent_at__gt=before, to_settle=False)
    for group in grouped(MeterReport.objects.filter(waiting | younger)):
        yield Finding(
            slug="stuck-reports",
            severity=Severity.ERROR,
            subject=group.subject,
            sentence=f"{group.what}, have not been sent.",
            advice="The task that sends them runs four times a minute: see that Celery's beat and a worker run, "
            "that the organization has a customer at Stripe, and that the meter is published.",
            fix=Fix("Send them now.", partial(flush_usage, group.organization)),
            organization=group.organization,
        )


@check(
    "unanswered-reports",
    "Usage of which nobody knows whether it reached Stripe, too old to be sent again blindly.",
)
def unanswered_reports() -> Iterator[Finding]:
    for group in grouped(MeterReport.objects.unanswered(now=clock.now())):
        yield unanswered_finding(group)


def unanswered_finding(group: Group) -> Finding:
    """What Stripe counted tells a person whether to send them again. A coincidence could fool a program."""
    since = min(report.period_start for report in group.reports)
    evidence = weigh(group.organization, group.meter, since=since)
    sentence, fix, advice = (
        f"{group.what}, got no answer from Stripe.",
        None,
        "Give it a customer and a meter first.",
    )
    if evidence:
        sentence += (
            f" Since {since:%Y-%m-%d %H:%M} UTC Stripe has counted {evidence.counted:,}; {evidence.certain:,} were "
            f"taken for certain, {evidence.doubtful:,} are in doubt."
        )
        # What the task that settles them found, minute by minute.
        notes = sorted({report.settled_as for report in group.reports if report.settled_as})
        sentence += "".join(f" Tried to settle, {note}." for note in notes)
        found = way_out(group.organization, group.reports, evidence)
        fix = Fix(*found, is_safe=False) if found else None
        advice = (
            ""
            if found
            else "The figures fit neither way: compare the meter's events at Stripe with the reports."
        )
    return Finding(
        slug="unanswered-reports",
        severity=Severity.ERROR,
        subject=group.subject,
        sentence=sentence,
        advice=advice,
        fix=fix,
        organization=group.organization,
    )


@check("rejected-reports", "Usage that Stripe refused to take, or took and does not count.")
def rejected_reports() -> Iterator[Finding]:
    too_old = MeterReport.objects.too_old().filter(correction=None)
    others = MeterReport.objects.filter(state=MeterReport.State.REJECTED, correction=None)
    others = others.exclude(rejection_code=MeterReport.TOO_OLD)
    for group in grouped(others):
        errors = sorted({report.last_error for report in group.reports})
        ids = [report.pk for report in group.reports]
        yield Finding(
            slug="rejected-reports",
            severity=Severity.ERROR,
            subject=group.subject,
            sentence=f"{group.what}, were refused by Stripe: {'; '.join(errors)}",
            advice="They are on no invoice. Mend what Stripe complains of, then send them again.",
            fix=Fix("Send them again.", partial(send_again, group.organization, ids), is_safe=False),
            organization=group.organization,
        )
    for group in grouped(too_old):
        yield Finding(
            slug="rejected-reports",
            severity=Severity.ERROR,
            subject=f"{group.subject}/too-old",
            sentence=f"{group.what}, are on no invoice: Stripe takes usage of the last 35 days.",
            advice="Bill them with an invoice item.",
            organization=group.organization,
        )
    for event, count in with_unnamed():
        if event.acknowledged_at:
            continue
        yield Finding(
            slug="rejected-reports",
            severity=Severity.ERROR,
            subject=event.id,
            sentence=f"Stripe rejected {count:,} more meter events than we can put a report to: {event.summary}",
            advice="An hour later its summaries are searched for what they lack. What that cannot tell shows where the "
            "proof of a period does not add up. Acknowledge the thin event when it is seen to.",
        )


@check("ageing-usage", "Usage that nears the 35 days after which Stripe takes it no more.")
def ageing_usage() -> Iterator[Finding]:
    now = clock.now()
    State = MeterReport.State
    old = Q(hour__lt=now - AGEING)
    # Those without an answer and those refused have checks of their own.
    reports = MeterReport.objects.filter(old, state__in=[State.PENDING, State.SENDING])
    unreported = UsageRollup.objects.unreported().filter(old).annotate(rest=F("units") - F("reported_units"))
    found: dict[tuple[UUID, str], list[tuple[int, datetime]]] = defaultdict(list)
    for report in reports.only("organization_id", "meter_id", "units", "hour"):
        found[report.organization_id, report.meter_id].append((report.units, report.hour))
    for rollup in unreported:
        found[rollup.organization_id, rollup.meter].append((rollup.rest, rollup.hour))
    organizations = Organization.objects.in_bulk([organization_id for organization_id, _ in found])
    meters = set(Meter.objects.values_list("slug", flat=True))
    for (organization_id, meter), parts in found.items():
        yield ageing_finding(
            organizations[organization_id],
            meter,
            units=sum(units for units, _ in parts),
            oldest=min(hour for _, hour in parts),
            is_gone=meter not in meters,
            now=now,
        )


def ageing_finding(
    organization: Organization, meter: str, *, units: int, oldest: datetime, is_gone: bool, now: datetime
) -> Finding:
    days = (now - oldest).days
    advice = ""
    if is_gone:
        advice = (
            f"There is no meter {meter} any more: while none is made by that name, they are never reported."
        )
    elif now - oldest > LIMIT:
        advice = "What is older than 35 days Stripe will refuse: bill it with an invoice item."
    return Finding(
        slug="ageing-usage",
        severity=Severity.ERROR,
        subject=f"{organization.ref}/{meter}",
        sentence=f"{units:,} {meter} of {organization} have not reached Stripe; the oldest are {days} days old.",
        advice=advice,
        fix=None if is_gone else Fix("Report them now.", partial(flush_usage, organization)),
        organization=organization,
    )
