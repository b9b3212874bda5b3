"""What usage does when billing has news."""

from typing import Any

from django.dispatch import receiver

from accounts.models import Organization
from billing.signals import invoice_closing
from usage.flush import flush_usage


@receiver(invoice_closing)
def report_before_closing(sender: type[Any], organization: Organization, **kwargs: object) -> None:
    """Report what was used, so that the invoice holds it. Raises UsageNotReported, which stops what closes it."""
    flush_usage(organization)
