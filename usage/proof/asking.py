"""A count anew for the customer who looks, by a worker: the ledger is not read while a page waits."""

from datetime import timedelta

from django.core.cache import cache
from django.db.models import Max

from accounts import clock
from accounts.models import Organization
from billing.tasks import enqueue
from usage.models import UsageRollup
from usage.tasks import prove_usage_of

# What was counted as lately as this is shown as it is.
SHOWN_FOR = timedelta(minutes=10)
ASKED_FOR_SECONDS = 60


def ask_for_count(organization: Organization) -> bool:
    """Have a worker prove the organization's usage anew where that is due; return whether it is on its way."""
    if not is_due(organization):
        return False
    # Whoever looks again within a minute does not ask again.
    if cache.add(f"usage-proof:{organization.pk}", 1, ASKED_FOR_SECONDS):
        enqueue(prove_usage_of, str(organization.pk))
    return True


def is_due(organization: Organization) -> bool:
    """Whether the organization's proofs are to be made anew for who looks at them: none is there, or they are old."""
    checked_at = organization.proofs.aggregate(last=Max("checked_at"))["last"]
    if checked_at is None:
        return UsageRollup.objects.filter(organization=organization).exists()
    return bool(clock.now() - checked_at > SHOWN_FOR)
