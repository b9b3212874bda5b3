"""Reports that are there twice, and reports that are missing."""

from dataclasses import replace
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet

from accounts import clock
from billing.errors import BillingError
from billing.locks import customer_lock
from billing.stripe.customers import find_customer
from billing.stripe.metering import cancel_meter_event, send_meter_event
from billing.subscriptions import metered_since_by
from usage.dating import Terms, moment_when_free
from usage.evidence import SUMMARIES_LAG, Minute
from usage.models import MeterReport, Proof, UsageRollup
from usage.proof.explaining import many
from usage.proof.hours import HourGap, of
from usage.proof.judging import Key

State = MeterReport.State
# Stripe takes an event back for 24 hours: one that is nearly as old may be too old when it is asked.
CANCELLABLE_FOR = timedelta(hours=23)
HOUR = timedelta(hours=1)
TAKING_OFF = "It holds what another report holds: it is being taken off."


class Unclear(BillingError):
    """Which of several reports is too much, or whether Stripe has it, cannot be told, or not yet."""


def take_off(key: Key, gap: HourGap, cancelled: set[datetime]) -> str | None:
    """Take a report off that holds an hour's units once more; return what was done, None where nothing could be.

    It is one that holds just what is too much. Where Stripe has counted it too, Stripe is asked first to cancel it,
    which it does for a day, and the moment it is dated at is added to `cancelled`. The report that stays is one that
    Stripe has. Raises Unclear, StripeUnavailable, and StripeRejected.
    """
    rows = MeterReport.objects.filter(**of(key), hour=gap.hour, units=gap.units, correction=None)
    # Never sent before sent, and the younger before the older: that one is the copy.
    unsent = rows.filter(state=State.PENDING, first_sent_at=None).order_by("-created_at", "-pk").first()
    if unsent is not None:
        deleted, _ = rows.filter(pk=unsent.pk, state=State.PENDING, first_sent_at=None).delete()
        return (
            f"Took off {unsent.identifier}, of {many(gap.units)} that another report holds."
            if deleted
            else None
        )
    sent = list(
        rows.filter(state=State.SENT)
        .select_related("organization", "meter")
        .order_by(F("first_sent_at").desc(nulls_last=True), "-created_at", "-pk")
    )
    return take_off_sent(sent, gap, cancelled) if sent else None


def take_off_sent(sent: list[MeterReport], gap: HourGap, cancelled: set[datetime]) -> str | None:
    """Take one of some reports off that hold the same, the youngest first: one that Stripe does not have, if any."""
    begun = next((each for each in sent if each.settled_as == TAKING_OFF), None)
    if begun is not None:
        # An earlier repair got as far as this. What it cancelled may be cancelled again.
        return cancel(begun, cancelled)
    excess = counted_too_much(sent, gap)
    after = clock.now() - CANCELLABLE_FOR
    young = [each for each in sent if each.first_sent_at and each.first_sent_at > after]
    for report in young:
        if is_new_to_stripe(report):
            # It was asked by sending it, so now Stripe has it: that is undone.
            return cancel(report, cancelled, found="Stripe never had it")
    if excess >= gap.units:
        return cancel(young[0], cancelled) if young else None
    if excess != 0 or any(each.sent_at and each.sent_at > clock.now() - SUMMARIES_LAG for each in sent):
        raise Unclear(
            f"Of the reports of {gap.hour:%Y-%m-%d %H}h that hold {many(gap.units)} twice Stripe's count does not "
            "say yet whether it has both: nothing was cancelled. Repair it in an hour."
        )
    # Stripe has those that it was just asked for: it lacks one of the others.
    report = next((each for each in sent if each not in young), sent[0])
    MeterReport.objects.filter(pk=report.pk, state=State.SENT).delete()
    return (
        f"Took off {report.identifier}, of {many(gap.units)} that another report holds: Stripe has counted them "
        "once, and nothing was cancelled."
    )


def counted_too_much(sent: list[MeterReport], gap: HourGap) -> int:
    """Return by how much Stripe's count is above what is right, in the minutes that the reports are dated in.

    Raises Unclear where it cannot be told, StripeUnavailable, and StripeRejected.
    """
    counted = held = 0
    for minute in {Minute.of(each) for each in sent}:
        reports = minute.reports()
        if reports.filter(state__in=[State.SENDING, State.UNKNOWN]).exists():
            raise Unclear(f"Reports of {minute} are on their way to Stripe: its count says nothing yet.")
        seen = minute.counted()
        if seen is None:
            raise Unclear(
                f"Stripe knows no such customer or meter: what it counted in {minute} cannot be told."
            )
        counted += seen
        held += sum(reports.filter(state=State.SENT).values_list("units", flat=True))
    return counted - (held - gap.units)


def is_new_to_stripe(report: MeterReport) -> bool:
    """Send a report once more, and return whether Stripe had not had it: it takes each identifier once a day.

    Raises StripeUnavailable, StripeRejected, and Unclear where there is no customer.
    """
    customer_id = Minute.of(report).customer_id
    if not customer_id:
        found = find_customer(report.organization)
        if found is None:
            raise Unclear(f"Whose units {report.identifier} holds at Stripe is not known.")
        customer_id = found.id
    with customer_lock(customer_id):
        return send_meter_event(
            event_name=report.meter.event_name,
            customer_id=customer_id,
            value=report.units,
            identifier=report.identifier,
            timestamp=report.moment,
        )


def cancel(report: MeterReport, cancelled: set[datetime], *, found: str = "") -> str:
    """Have Stripe take a report back and delete it; return what was done. Raises StripeUnavailable or StripeRejected.

    It is marked before: an identifier that was cancelled looks at Stripe like one that counts, so a repair that was
    cut off in between must not choose anew.
    """
    MeterReport.objects.filter(pk=report.pk, state=State.SENT).update(settled_as=TAKING_OFF)
    cancelled.add(report.moment)
    cancel_meter_event(event_name=report.meter.event_name, identifier=report.identifier)
    MeterReport.objects.filter(pk=report.pk, state=State.SENT).delete()
    if found:
        return f"Took off {report.identifier}, of {many(report.units)} that another report holds: {found}."
    return f"Had Stripe cancel {report.identifier}, of {many(report.units)} that another report holds."


def put_back(key: Key, gap: HourGap, proof: Proof) -> str | None:
    """Make good a report that is missing in an hour; return what was done, None where the figures are unclear.

    Stripe's count tells whether it had been sent: then the row is made anew, as sent. Else its units are put in
    a new report by the next run. Of two processes the second finds nothing missing. Raises Unclear where it may have
    been sent so lately that the count lacks it, or for another period; StripeUnavailable, and StripeRejected.
    """
    missing = -gap.units
    lost = lost_in(proof)
    surplus = None if proof.stripe is None else proof.stripe - proof.reported
    if proof.unknown or proof.waiting or lost <= 0 or surplus not in {None, 0, lost}:
        return None
    report = MeterReport(
        organization=proof.organization,
        meter=proof.meter,
        hour=gap.hour,
        period_start=key.period_start,
        units=missing,
        state=State.SENT,
        sent_at=clock.now(),
        last_error="Made anew: the row was lost, and Stripe has counted its units.",
    )
    is_told = surplus == lost
    if is_told:
        report.dated_at = moment_told(report)
    else:
        # What a change of plan had dated after it is counted in another period, which may be accepted as it is.
        over = list(other_periods(report).filter(stripe__gt=F("reported")))
        if over:
            report.dated_at = moment_in(over, report, lost=lost)
            is_told = True
        elif could_be_counted_from(report) > clock.now():
            raise Unclear(
                f"Stripe's count does not say yet whether it has the {many(missing)} of {gap.hour:%Y-%m-%d %H}h whose "
                "report is missing: nothing was reported again. Repair it in two hours."
            )
    with transaction.atomic():
        rollups = list(
            UsageRollup.objects.filter(**of(key), hour=gap.hour).select_for_update().order_by("pk")
        )
        held = sum(MeterReport.objects.filter(**of(key), hour=gap.hour).values_list("units", flat=True))
        if sum(rollup.reported_units for rollup in rollups) - held != missing:
            return None
        if is_told:
            report.save(force_insert=True)
            return f"Made a report of {many(missing)} anew that Stripe has counted: {report.identifier}."
        rest = missing
        for rollup in rollups:
            back = min(rest, rollup.reported_units)
            rollup.reported_units -= back
            rest -= back
            rollup.save(update_fields=["reported_units"])
    are = "is" if missing == 1 else "are"
    return f"{many(missing)} of {gap.hour:%Y-%m-%d %H}h {are} to be reported again: Stripe has none of them."


def in_reports(proof: Proof) -> int:
    return proof.reported + proof.waiting + proof.unknown + proof.rejected


def lost_in(proof: Proof) -> int:
    """Return how many units of the period are marked as reported and in no report; below 0: too many are in some."""
    return proof.rollups - proof.unreported - in_reports(proof)


def other_periods(report: MeterReport) -> QuerySet[Proof]:
    """Return the periods besides the report's own that its units may be dated in: those after it as a rule."""
    own = {"organization": report.organization, "meter": report.meter}
    others = Proof.objects.filter(**own).exclude(period_start=report.period_start).order_by("period_start")
    is_before = moment_if_free(report) < report.period_start
    return others if is_before else others.filter(period_start__gt=report.period_start)


def moment_if_free(report: MeterReport) -> datetime:
    known = Terms([report.organization_id]).known.get(report.organization_id, [])
    return moment_when_free(report, report.timestamp, known)


def could_be_counted_from(report: MeterReport) -> datetime:
    """Return from when on Stripe's count has the report's units, if it was sent, wherever they were dated."""
    starts = other_periods(report).values_list("period_start", flat=True)
    return max([report.hour + HOUR, *starts]) + SUMMARIES_LAG


def moment_in(over: list[Proof], report: MeterReport, *, lost: int) -> datetime:
    """Return the moment at which Stripe has a lost report's units, in the other period that has as many too many.

    Raises Unclear where it has not just what was lost, or where that is not found; StripeUnavailable, StripeRejected.
    """
    other = over[0]
    surplus = (other.stripe or 0) - other.reported
    is_same = len(over) == 1 and surplus == lost and lost_in(other) == 0
    moment = moment_told(report) if is_same and not other.unknown and not other.waiting else None
    if moment is None or report.timestamp <= moment < other.period_start:
        raise Unclear(
            f"In the period from {other.period_start:%Y-%m-%d} Stripe has counted {many(surplus)} more than were "
            f"reported, which may be the {many(report.units)} of {report.hour:%Y-%m-%d %H}h whose report is missing: "
            "nothing was reported again."
        )
    return moment


def moment_told(report: MeterReport) -> datetime | None:
    """Return the moment at which Stripe has counted more than was reported, by the units of a report or more.

    That is where they were used, or where they were dated instead: before a subscription that waited for its first
    payment, or after a change of plan, at the beginning of a later period or of a new price. None where it is at none
    of them. Raises StripeUnavailable, and StripeRejected.
    """
    terms = Terms([report.organization_id])
    entitlement = terms.entitlements.get(report.organization_id)
    since = metered_since_by(terms.subscriptions.get(report.organization_id), report.meter)
    starts = {since, entitlement.period_start if entitlement else None}
    starts |= set(other_periods(report).values_list("period_start", flat=True))
    after = sorted(each for each in starts if each and each > report.timestamp)
    known = [moment_if_free(report), report.timestamp, *after]
    return next((each for each in known if has_untold(report, each)), None)


def has_untold(report: MeterReport, moment: datetime) -> bool:
    """Whether in the minute of a moment Stripe has counted as much as a report holds that no report there does."""
    minute = replace(Minute.of(report), start=moment.replace(second=0, microsecond=0))
    reports = minute.reports()
    if reports.filter(state__in=[State.SENDING, State.UNKNOWN]).exists():
        return False
    held = sum(reports.filter(state=State.SENT).values_list("units", flat=True))
    return (minute.counted() or 0) - held >= report.units
