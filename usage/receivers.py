"""What usage does when billing has news."""

from typing import Any

from django.dispatch import receiver

from accounts.models import Organization
from billing.signals import invoice_closing, repairing
from billing.stripe.copying import Outcome
from usage.flush import flush_usage
from usage.repair import repair


@receiver(invoice_closing)
def report_before_closing(sender: type[Any], organization: Organization, **kwargs: object) -> None:
    """Report what was used, so that the invoice holds it. Raises UsageNotReported, which stops what closes it."""
    flush_usage(organization)


@receiver(repairing)
def repair_usage(sender: type[Any], organization: Organization, **kwargs: object) -> Outcome:
    """Mend what differs between what was used and what is billed. Raises StripeUnavailable or StripeRejected."""
    done = repair(organization)
    return Outcome(repaired=done.done, problems=done.left)
