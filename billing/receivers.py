"""What billing does when the apps to its right have news."""

from functools import partial

from django.db import transaction
from django.dispatch import receiver

from accounts.models import Organization
from accounts.signals import organization_created
from billing.entitlements import open_entitlement
from billing.tasks import enqueue, ensure_customer_of


@receiver(organization_created)
def entitle_new_organization(
    sender: type[Organization], organization: Organization, **kwargs: object
) -> None:
    """Put a new organization on the free plan at once; Stripe hears of it afterwards, from a worker."""
    open_entitlement(organization)
    transaction.on_commit(partial(enqueue, ensure_customer_of, str(organization.pk)))
