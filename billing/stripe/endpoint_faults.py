"""Why Stripe's news would not arrive here, by what Stripe says of where it sends it."""

import stripe
from django.conf import settings
from djstripe import models as djstripe

from billing.models import METER_ERROR_TYPES, EventDestination
from billing.stripe import event_destinations
from billing.stripe.client import get_client, metadata_of, translated_errors
from billing.stripe.webhook_endpoints import ENABLED_EVENTS, REPLACED_AT, address, is_replaced


def find_endpoint_faults() -> list[str]:
    """Return what is wrong with the webhook endpoint, a sentence each; none where it is as the set-up makes it.

    Raises StripeUnavailable or StripeRejected.
    """
    known = {each.id: each for each in djstripe.WebhookEndpoint.objects.exclude(secret="")}
    with translated_errors():
        listed = list(get_client().v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())
    ours = [each for each in listed if each.id in known and not is_replaced(each)]
    if not ours:
        return [
            f"Stripe has no webhook endpoint that leads to {settings.API_BASE_URL} and whose secret is here."
        ]
    usable = [each for each in ours if each.url == address(known[each.id].djstripe_uuid)]
    if not usable:
        return [f"Stripe sends webhooks to {each.url}, which does not lead here." for each in ours]
    return faults_of(usable[0])


def faults_of(endpoint: stripe.WebhookEndpoint) -> list[str]:
    faults = []
    if endpoint.status != "enabled":
        faults.append(f"The webhook endpoint {endpoint.id} is {endpoint.status} at Stripe: nothing is sent.")
    missing = sorted(set(ENABLED_EVENTS) - set(endpoint.enabled_events))
    if missing and "*" not in endpoint.enabled_events:
        faults.append(f"The webhook endpoint {endpoint.id} does not ask for {', '.join(missing)}.")
    if endpoint.api_version not in (None, stripe.api_version):
        faults.append(
            f"The webhook endpoint {endpoint.id} was made for API version {endpoint.api_version}, "
            f"and Tollgate speaks {stripe.api_version}."
        )
    return faults


def find_destination_faults() -> list[str]:
    """Return what is wrong with where thin events go, as `find_endpoint_faults` does."""
    with translated_errors():
        ours = [each for each in event_destinations.listed() if REPLACED_AT not in metadata_of(each)]
    known = {each.id: each for each in EventDestination.objects.filter(replaced_at=None)}
    usable = [
        each
        for each in ours
        if each.id in known
        and event_destinations.url_of(each) == event_destinations.address(known[each.id].uuid)
    ]
    if not usable:
        return [f"Stripe has no destination for thin events that leads to {settings.API_BASE_URL}."]
    (destination, *_), faults = usable, []
    if destination.status != "enabled":
        faults.append(f"The destination {destination.id} is {destination.status} at Stripe: nothing is sent.")
    missing = sorted(set(METER_ERROR_TYPES) - set(destination.enabled_events))
    if missing:
        faults.append(f"The destination {destination.id} does not ask for {', '.join(missing)}.")
    return faults
