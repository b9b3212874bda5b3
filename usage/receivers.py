"""What usage does when billing has news."""

from typing import Any

from django.dispatch import receiver

from accounts.models import Organization
from billing.models import Meter
from billing.signals import invoice_closing, meter_references
from usage.flush import flush_usage
from usage.models import MeterReport, UsageRollup


@receiver(invoice_closing)
def report_before_closing(sender: type[Any], organization: Organization, **kwargs: object) -> None:
    """Report what was used, so that the invoice holds it. Raises UsageNotReported, which stops what closes it."""
    flush_usage(organization)


@receiver(meter_references)
def tell_of_usage(sender: type[Meter], meter: Meter, **kwargs: object) -> str:
    """Return whether anything was ever counted by a meter, in words."""
    is_used = (
        MeterReport.objects.filter(meter=meter).exists()
        or UsageRollup.objects.filter(meter=meter.slug).exists()
    )
    return "usage was counted by it" if is_used else ""
