"""Drop the gate's copy when what it copies changes. Both signals come inside the changing transaction,
with the organization's entitlement row locked."""

from django.dispatch import receiver

from accounts.models import Organization
from apikeys import cache
from apikeys.models import APIKey
from apikeys.signals import keys_changed
from billing.models import Entitlement
from billing.signals import entitlement_changed


@receiver(entitlement_changed)
def drop_on_entitlement(sender: type[Entitlement], entitlement: Entitlement, **kwargs: object) -> None:
    cache.drop(entitlement.organization.ref)


@receiver(keys_changed)
def drop_on_keys(sender: type[APIKey], organization: Organization, **kwargs: object) -> None:
    cache.drop(organization.ref)
