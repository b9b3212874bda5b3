"""Thin events, from what Stripe posts to what staff have to see to."""

import logging

from django.db import transaction

from accounts import clock
from billing.errors import StripeRejected
from billing.models import EventDestination, ThinEvent
from billing.models.thin_events import ThinEventQuerySet
from billing.signals import meter_events_rejected
from billing.stripe.thin_events import fetch_event_data, read_notification

logger = logging.getLogger(__name__)


def take_in(destination: EventDestination, *, body: bytes, signature: str) -> tuple[ThinEvent, bool]:
    """Store what Stripe posted; return the event and whether it is new. Raises NotSigned.

    Nothing is asked of Stripe here: it waits for the answer.
    """
    told = read_notification(body, signature, secret=destination.secret)
    event, is_new = ThinEvent.objects.get_or_create(
        id=told.id, defaults={"type": told.type, "created": told.created, "related_id": told.related_id}
    )
    if is_new:
        log = logger.warning if event.is_meter_error else logger.info
        log("Thin event %s: %s %s", event.id, event.type, event.related_id)
    return event, is_new


def fetch_details(event_id: str) -> None:
    """Fetch what a meter error is about, once. Safe to repeat. Raises StripeUnavailable.

    Where Stripe no longer has the event, that is what is noted. Whoever sent the usage is told in the same transaction:
    were it after, a crash in between would lose it.
    """
    event = ThinEvent.objects.without_details().filter(pk=event_id).first()
    if event is None:
        return
    try:
        event.data = fetch_event_data(event.id)
    except StripeRejected as error:
        event.fetch_error = str(error)[:300]
    event.fetched_at = clock.now()
    with transaction.atomic():
        event.save(update_fields=["data", "fetch_error", "fetched_at"])
        if event.samples:
            meter_events_rejected.send(sender=ThinEvent, event=event, samples=event.samples)


def unacknowledged_meter_errors() -> ThinEventQuerySet:
    """Return what nobody has seen to yet: usage that Stripe took and will not bill, the newest first."""
    return ThinEvent.objects.meter_errors().unacknowledged()
