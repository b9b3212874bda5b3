"""Where Stripe sends thin events: made, kept up to date, replaced, and read back from."""

from typing import Any
from uuid import uuid4

import stripe
from django.conf import settings

from accounts import clock
from billing.locks import setup_lock
from billing.models import METER_ERROR_TYPES, EventDestination
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.webhook_endpoints import CREATED, PATIENCE, REPLACED_AT, Settled

NAME = "Tollgate: usage that does not count"
SECRET: Any = "webhook_endpoint.signing_secret"  # noqa: S105  (the name of a field)
URL: Any = "webhook_endpoint.url"


def settle_event_destination() -> Settled:
    """Make Stripe send us the events that tell of rejected usage, and say what that took.

    As with the webhook endpoint, one whose secret is not held is removed and made anew. Raises StripeUnavailable or
    StripeRejected.
    """
    with translated_errors(), setup_lock("event-destination"):
        ours = [each for each in listed() if REPLACED_AT not in metadata_of(each)]
        known = {each.id: each for each in EventDestination.objects.filter(replaced_at=None)}
        usable = [e for e in ours if e.id in known and url_of(e) == address(known[e.id].uuid)]
        done = []
        for stale in [e for e in ours if e not in usable[:1]]:
            remove(stale.id)
            done.append(f"removed {stale.id}, whose signing secret is not known here")
        if usable:
            return Settled(usable[0].id, (*done, *bring_up_to_date(usable[0])))
        return Settled(create().id, (*done, CREATED))


def listed() -> list[Any]:
    """Return the destinations at Stripe that lead here, the newest first."""
    found = get_client().v2.core.event_destinations.list({"include": [URL], "limit": 100})
    return [each for each in found.auto_paging_iter() if url_of(each).startswith(base_address())]


def url_of(destination: Any) -> str:
    """Return where it leads; empty for one that is no webhook endpoint, such as Amazon EventBridge."""
    endpoint = getattr(destination, "webhook_endpoint", None)
    return str(getattr(endpoint, "url", None) or "")


def create() -> EventDestination:
    uuid = uuid4()
    created = get_client().v2.core.event_destinations.create(
        {
            "name": NAME,
            "type": "webhook_endpoint",
            "event_payload": "thin",
            "enabled_events": METER_ERROR_TYPES,
            "webhook_endpoint": {"url": address(uuid)},
            "metadata": {"tollgate_uuid": str(uuid)},
            "include": [SECRET],
        }
    )
    endpoint: Any = created.webhook_endpoint
    return EventDestination.objects.create(id=created.id, uuid=uuid, secret=endpoint.signing_secret)


def bring_up_to_date(destination: Any) -> list[str]:
    """Ask for exactly our events, and have the destination enabled. Return what was changed."""
    destinations, done = get_client().v2.core.event_destinations, []
    if sorted(destination.enabled_events) != sorted(METER_ERROR_TYPES):
        destinations.update(destination.id, {"enabled_events": METER_ERROR_TYPES})
        done.append("changed which events it asks for")
    if destination.status != "enabled":
        destinations.enable(destination.id)
        done.append("enabled it again")
    return done


def rotate_destination_secret(*, replacing: str) -> Settled:
    """Put a new destination, with a new signing secret, in the place of `replacing`, which stays until retired.

    Does nothing where `replacing` is not the one in use. Raises StripeUnavailable or StripeRejected.
    """
    with translated_errors(), setup_lock("event-destination"):
        for each in listed():
            if each.id == replacing and REPLACED_AT not in metadata_of(each):
                now = clock.now()
                mark: Any = {REPLACED_AT: str(int(now.timestamp()))}
                get_client().v2.core.event_destinations.update(each.id, {"metadata": mark})
                EventDestination.objects.filter(id=each.id).update(replaced_at=now)
    return settle_event_destination()


def retire_replaced_destinations() -> list[str]:
    """Remove replaced destinations once Stripe has given up on what waited for them; return their ids.

    Stripe does not say of thin events whether they were delivered. Raises StripeUnavailable or StripeRejected.
    """
    over = clock.now() - PATIENCE
    with translated_errors(), setup_lock("event-destination"):
        retired = [each.id for each in EventDestination.objects.filter(replaced_at__lte=over)]
        for destination_id in retired:
            remove(destination_id)
    return retired


def remove(destination_id: str) -> None:
    try:
        get_client().v2.core.event_destinations.delete(destination_id)
    except stripe.InvalidRequestError as error:
        if error.http_status != 404:  # An earlier try removed it, and its answer was lost.
            raise
    EventDestination.objects.filter(id=destination_id).delete()


def ping_destination(destination_id: str) -> None:
    """Have Stripe send a test event. Raises StripeUnavailable or StripeRejected."""
    with translated_errors():
        get_client().v2.core.event_destinations.ping(destination_id)


def base_address() -> str:
    return f"{settings.API_BASE_URL}/stripe/thin/"


def address(uuid: object) -> str:
    return f"{base_address()}{uuid}/"
