from typing import Any
from uuid import uuid4

import stripe
from django.conf import settings
from djstripe import models as djstripe

from billing.event_types import EVENT_TYPES
from billing.stripe.client import get_client, translated_errors

ENABLED_EVENTS: list[Any] = sorted(EVENT_TYPES)  # Any: Stripe's types are lists of literals.


def ensure_webhook_endpoint() -> tuple[djstripe.WebhookEndpoint, bool]:
    """Make Stripe send our events to this installation; return the endpoint and whether it is new.

    An endpoint whose secret we do not hold is of no use: Stripe shows it once, so a new one is made
    and the old one removed. Raises StripeUnavailable or StripeRejected.
    """
    base = f"{settings.API_BASE_URL}/stripe/webhook/"
    known = {endpoint.id: endpoint for endpoint in djstripe.WebhookEndpoint.objects.exclude(secret="")}
    with translated_errors():
        endpoints = get_client().v1.webhook_endpoints
        ours = [e for e in endpoints.list({"limit": 100}).auto_paging_iter() if e.url.startswith(base)]
        usable = [e for e in ours if e.id in known and e.url == address(known[e.id].djstripe_uuid)]
        for stale in [e for e in ours if e not in usable[:1]]:
            endpoints.delete(stale.id)
            djstripe.WebhookEndpoint.objects.filter(id=stale.id).delete()
        if usable:
            endpoint = known[usable[0].id]
            if sorted(usable[0].enabled_events) != ENABLED_EVENTS or usable[0].status != "enabled":
                endpoints.update(usable[0].id, {"enabled_events": ENABLED_EVENTS, "disabled": False})
            return endpoint, False
        uuid = uuid4()
        version: Any = stripe.api_version
        created = endpoints.create(
            {
                "url": address(uuid),
                "enabled_events": ENABLED_EVENTS,
                "api_version": version,
                "metadata": {"djstripe_uuid": str(uuid)},
            },
            {"idempotency_key": f"tollgate-webhook-endpoint-{uuid}"},
        )
        return djstripe.WebhookEndpoint.sync_from_stripe_data(created), True


def address(uuid: object) -> str:
    return f"{settings.API_BASE_URL}/stripe/webhook/{uuid}/"
