"""Reports that are there twice, and reports that are missing."""

from datetime import timedelta

from django.db import transaction

from accounts import clock
from billing.errors import StripeRejected
from billing.stripe.metering import cancel_meter_event
from usage.models import MeterReport, Proof, UsageRollup
from usage.proof.hours import HourGap, of
from usage.proof.judging import Key

State = MeterReport.State
# Stripe takes an event back for 24 hours: one that is nearly as old may be too old when it is asked.
CANCELLABLE_FOR = timedelta(hours=23)


def take_off(key: Key, gap: HourGap) -> str | None:
    """Take a report off that holds an hour's units once more; return what was done, None where nothing could be.

    It is one that holds just what is too much. Where Stripe has it, Stripe is asked first to cancel it, which it
    does for a day. Raises StripeUnavailable.
    """
    rows = MeterReport.objects.filter(**of(key), hour=gap.hour, units=gap.units, correction=None)
    # Never sent before sent, and the younger before the older: that one is the copy.
    unsent = rows.filter(state=State.PENDING, first_sent_at=None).order_by("-created_at", "-pk").first()
    if unsent is not None:
        deleted, _ = rows.filter(pk=unsent.pk, state=State.PENDING, first_sent_at=None).delete()
        return (
            f"Took off {unsent.identifier}, of {gap.units:,} units that another report holds."
            if deleted
            else None
        )
    after = clock.now() - CANCELLABLE_FOR
    sent = rows.filter(state=State.SENT, first_sent_at__gt=after).order_by("-first_sent_at", "-pk").first()
    if sent is None:
        return None
    try:
        cancel_meter_event(event_name=sent.meter.event_name, identifier=sent.identifier)
    except StripeRejected:
        return None
    identifier = sent.identifier
    sent.delete()
    return f"Had Stripe cancel {identifier}, of {gap.units:,} units that another report holds."


def put_back(key: Key, gap: HourGap, proof: Proof) -> str | None:
    """Make good a report that is missing in an hour; return what was done, None where the figures are unclear.

    Stripe's count tells whether it had been sent: then the row is made anew, as sent. Else its units are put in
    a new report by the next run. Of two processes the second finds nothing missing.
    """
    missing = -gap.units
    lost = proof.rollups - proof.unreported - in_reports(proof)
    surplus = None if proof.stripe is None else proof.stripe - proof.reported
    if proof.unknown or proof.waiting or lost <= 0 or surplus not in {None, 0, lost}:
        return None
    with transaction.atomic():
        rollups = list(
            UsageRollup.objects.filter(**of(key), hour=gap.hour).select_for_update().order_by("pk")
        )
        held = sum(MeterReport.objects.filter(**of(key), hour=gap.hour).values_list("units", flat=True))
        if sum(rollup.reported_units for rollup in rollups) - held != missing:
            return None
        if surplus == lost:
            report = MeterReport.objects.create(
                organization_id=key.organization_id,
                meter_id=key.meter,
                hour=gap.hour,
                period_start=key.period_start,
                units=missing,
                state=State.SENT,
                sent_at=clock.now(),
                last_error="Made anew: the row was lost, and Stripe has counted its units.",
            )
            return f"Made a report of {missing:,} units anew that Stripe has counted: {report.identifier}."
        rest = missing
        for rollup in rollups:
            back = min(rest, rollup.reported_units)
            rollup.reported_units -= back
            rest -= back
            rollup.save(update_fields=["reported_units"])
    return f"{missing:,} units of {gap.hour:%Y-%m-%d %H}h are to be reported again: Stripe has none of them."


def in_reports(proof: Proof) -> int:
    return proof.reported + proof.waiting + proof.unknown + proof.rejected
