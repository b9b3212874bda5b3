"""Why Stripe's news would not arrive here, by what Stripe says of the endpoint."""

import stripe
from django.conf import settings
from djstripe import models as djstripe

from billing.stripe.client import get_client, translated_errors
from billing.stripe.webhook_endpoints import ENABLED_EVENTS, address


def find_endpoint_faults() -> list[str]:
    """Return what is wrong with the webhook endpoint, a sentence each; none where it is as the set-up makes it.

    Raises StripeUnavailable or StripeRejected.
    """
    known = {each.id: each for each in djstripe.WebhookEndpoint.objects.exclude(secret="")}
    with translated_errors():
        listed = list(get_client().v1.webhook_endpoints.list({"limit": 100}).auto_paging_iter())
    ours = [each for each in listed if each.id in known]
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
    if endpoint.api_version != stripe.api_version:
        faults.append(
            f"The webhook endpoint {endpoint.id} was made for API version {endpoint.api_version}, "
            f"and Tollgate speaks {stripe.api_version}."
        )
    return faults
