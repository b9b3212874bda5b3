"""Drop the gate's copy when what it copies changes. The signals come inside the changing transaction, with the
organization's entitlement row, or the service token's, locked."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.dispatch import receiver

from accounts.models import Organization
from apikeys import about, cache, ingest, late, service_access
from apikeys.models import APIKey, ServiceToken
from apikeys.signals import keys_changed, service_token_changed
from billing.models import Entitlement
from billing.signals import entitlement_changed
from usage.events import Event
from usage.models import UsageEvent
from usage.signals import event_delayed, events_stored, units_ingested


@receiver(events_stored)
def note_use(sender: type[UsageEvent], last_served: Mapping[UUID, datetime], **kwargs: object) -> None:
    """Note when keys were last used, a batch of calls at a time."""
    APIKey.objects.note_use(last_served)


@receiver(units_ingested)
def count_ingested(
    sender: type[UsageEvent],
    units: Mapping[tuple[UUID, str, datetime], int],
    refs: Mapping[UUID, str],
    **kwargs: object,
) -> None:
    """Have the quotas' counters follow."""
    ingest.count(units, refs)


@receiver(event_delayed)
def charge_delayed(sender: type[UsageEvent], event: Event, **kwargs: object) -> None:
    late.announce(event)


@receiver(entitlement_changed)
def drop_on_entitlement(sender: type[Entitlement], entitlement: Entitlement, **kwargs: object) -> None:
    cache.drop(entitlement.organization.ref)
    about.drop(entitlement.organization.ref)


@receiver(keys_changed)
def drop_on_keys(sender: type[APIKey], organization: Organization, **kwargs: object) -> None:
    cache.drop(organization.ref)
    about.drop(organization.ref)


@receiver(service_token_changed)
def drop_on_service_token(sender: type[ServiceToken], token: ServiceToken, **kwargs: object) -> None:
    service_access.drop(token.digest)
