"""Calls that took so long to get into the ledger that their units may have been taken off the quota's counter.

What takes longer than LATE from its admission asks the counter before it hands its event over: see `apikeys.drift`.
"""

from datetime import timedelta

from django.db import InterfaceError, OperationalError, transaction
from redis.exceptions import RedisError

from accounts import clock
from accounts.models import Organization
from apikeys import cache
from apikeys.gate import return_units
from apikeys.instants import to_microseconds
from apikeys.models import UncountedUnits
from billing.entitlements import lock_entitlement
from usage import ledger, metering
from usage.events import Event

LATE = timedelta(minutes=5)


def announce(event: Event) -> None:
    """Have a counter charged anew for an event that was kept in memory for long, where it was taken off.

    Raises django.db.OperationalError or InterfaceError.
    """
    if clock.now() - event.occurred_at < LATE:
        return
    organization = Organization.objects.filter(pk=event.organization_id).first()
    if organization is None:
        return  # It was deleted with its counters, and the ledger will not take the event.
    try:
        return_units(
            organization.ref,
            counter=cache.counter(event.meter, event.period_start),
            units=0,
            came_to=event.units,
            born="",
            admitted=to_microseconds(event.occurred_at),
            is_late=True,
        )
    except RedisError:
        charge_later(event)


def store(event: Event) -> None:
    """Store the event of a late call whose counter cannot be asked. With PostgreSQL away it is kept in memory."""
    try:
        charge_later(event)
    except (OperationalError, InterfaceError):
        metering.store_directly(event)


def charge_later(event: Event) -> None:
    """Store an event, and have its counter charged once more when Redis is back.

    That may be too much, which is measured and mended, and never too little. Raises django.db.OperationalError or
    InterfaceError.
    """
    with transaction.atomic():
        organization = Organization.objects.get(pk=event.organization_id)
        lock_entitlement(organization)
        if ledger.store([event]):
            UncountedUnits.objects.create(
                organization=organization,
                meter=event.meter,
                period_start=event.period_start,
                units=event.units,
                is_stored=True,
            )
