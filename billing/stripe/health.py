"""How what was set up fares at Stripe right now."""

from dataclasses import dataclass
from typing import Any

import stripe

from billing.models import METER_ERROR_TYPES
from billing.stripe.client import get_client, translated_errors
from billing.stripe.portal_configuration import holds, wanted
from billing.stripe.webhook_endpoints import ENABLED_EVENTS

MOST_COUNTED = 100


@dataclass(frozen=True, slots=True)
class ListenerHealth:
    """Of a webhook endpoint or event destination, as Stripe has it."""

    is_there: bool
    is_enabled: bool = False
    asks_for_ours: bool = False
    url: str = ""


def endpoint_health(endpoint_id: str) -> ListenerHealth:
    """Ask Stripe about the webhook endpoint. Raises StripeUnavailable or StripeRejected."""
    return listener_health(get_client().v1.webhook_endpoints.retrieve, endpoint_id, events=ENABLED_EVENTS)


def destination_health(destination_id: str) -> ListenerHealth:
    """Ask Stripe about the destination of thin events. Raises StripeUnavailable or StripeRejected."""
    retrieve = get_client().v2.core.event_destinations.retrieve
    return listener_health(retrieve, destination_id, events=METER_ERROR_TYPES)


def listener_health(retrieve: Any, listener_id: str, *, events: list[str]) -> ListenerHealth:
    with translated_errors():
        try:
            found = retrieve(listener_id)
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return ListenerHealth(is_there=False)
    return ListenerHealth(
        is_there=True,
        is_enabled=found.status == "enabled",
        asks_for_ours=sorted(found.enabled_events) == sorted(events),
        url=str(getattr(found, "url", None) or ""),
    )


def count_pending_events() -> int:
    """Return how many of the newest events Stripe has not delivered everywhere; it counts up to `MOST_COUNTED`.

    Events of an account that has other endpoints too count as pending where those fail. Raises StripeUnavailable or
    StripeRejected.
    """
    with translated_errors():
        return len(get_client().v1.events.list({"delivery_success": False, "limit": MOST_COUNTED}).data)


def portal_is_as_wanted(configuration_id: str) -> bool:
    """Return whether the configuration is there, active and as wanted. Raises StripeUnavailable or StripeRejected."""
    with translated_errors():
        try:
            found = get_client().v1.billing_portal.configurations.retrieve(configuration_id)
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return False
    return bool(found.active and holds(found.to_dict(), wanted()))
