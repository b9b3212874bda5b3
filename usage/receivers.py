"""What usage does when billing has news."""

from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import receiver

from accounts.models import Organization
from billing.models import Entitlement, Meter, MeterErrorSample, ThinEvent
from billing.signals import (
    entitlement_changed,
    invoice_closing,
    invoice_drafted,
    meter_events_rejected,
    meter_references,
    repairing,
)
from billing.stripe.copying import Outcome
from billing.tasks import enqueue
from usage.alerts import lowered, note_crossings
from usage.flush import flush_usage
from usage.models import MeterReport, UsageRollup
from usage.rejections import note_rejected
from usage.repair import repair
from usage.tasks import flush_before_closing


@receiver(invoice_closing)
def report_before_closing(sender: type[Any], organization: Organization, **kwargs: object) -> None:
    """Report what was used, so that the invoice holds it. Raises UsageNotReported, which stops what closes it."""
    flush_usage(organization)


@receiver(invoice_drafted)
def report_while_open(sender: type[Any], organization: Organization, **kwargs: object) -> None:
    """Have a worker report what was used in the period that has ended. The reporting task would too, a little later."""
    transaction.on_commit(partial(enqueue, flush_before_closing, str(organization.pk)))


@receiver(entitlement_changed)
def tell_of_lowered_limits(
    sender: type[Entitlement], entitlement: Entitlement, before: Entitlement, **kwargs: object
) -> None:
    """Tell of limits that are below what is used by now, once who reports units next goes by them too.

    Robust: what else waits for the commit does not wait for an alert.
    """
    touched = [(entitlement.organization_id, slug) for slug in lowered(before, entitlement)]
    if touched:
        transaction.on_commit(partial(note_crossings, touched), robust=True)


@receiver(meter_events_rejected)
def mark_rejected(
    sender: type[Any], event: ThinEvent, samples: list[MeterErrorSample], **kwargs: object
) -> None:
    """Mark the reports that Stripe names as rejected."""
    note_rejected(event, samples)


@receiver(repairing)
def repair_usage(sender: type[Any], organization: Organization, **kwargs: object) -> Outcome:
    """Mend what differs between what was used and what is billed. Raises StripeUnavailable or StripeRejected."""
    done = repair(organization)
    return Outcome(repaired=done.done, problems=done.left)


@receiver(meter_references)
def tell_of_usage(sender: type[Meter], meter: Meter, **kwargs: object) -> str:
    """Return whether anything was ever counted by a meter, in words."""
    is_used = (
        MeterReport.objects.filter(meter=meter).exists()
        or UsageRollup.objects.filter(meter=meter.slug).exists()
    )
    return "usage was counted by it" if is_used else ""
