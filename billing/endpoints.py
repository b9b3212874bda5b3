"""What Stripe posts to: webhooks, which dj-stripe takes in, and thin events."""

from functools import partial
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django_ratelimit.core import get_usage
from djstripe.views import ProcessWebhookView

from accounts.addresses import client_network
from billing.errors import NotSigned
from billing.models import EventDestination
from billing.stripe.keys import settle_keys
from billing.stripe.owner import one_look
from billing.stripe.signatures import is_signed
from billing.tasks import enqueue, fetch_thin_event
from billing.thin_events import take_in

FORGERIES = "30/m"  # From one address. What Stripe signed is never refused, however much of it comes.


class WebhookView(ProcessWebhookView):
    """dj-stripe's, made to go by the key in the settings: it looks a key up in its own table before anything else."""

    def post(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        # dj-stripe stores what is not signed, too: from whoever sends much of it, nothing is stored any more.
        if wait_for_forging(request) and not is_signed(request.body, signature_of(request), endpoint=uuid):
            return refused(request)
        settle_keys()
        try:
            with one_look():
                response: HttpResponse = super().post(request, uuid)
        except Http404:
            return refused(request, otherwise=404)
        return refused(request) if response.status_code == 400 else response


@csrf_exempt
@login_not_required
@require_POST
@transaction.non_atomic_requests
def thin_events(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Store a thin event. 400 for one that Stripe did not sign just now; 200 for one that is here already."""
    destination = EventDestination.objects.filter(uuid=uuid).first()
    if destination is None:
        return refused(request, otherwise=404)
    try:
        event, is_new = take_in(destination, body=request.body, signature=signature_of(request))
    except NotSigned:
        return refused(request)
    if is_new and event.is_meter_error:
        transaction.on_commit(partial(enqueue, fetch_thin_event, event.id))
    return HttpResponse()


def signature_of(request: HttpRequest) -> str:
    return request.headers.get("Stripe-Signature", "")


def refused(request: HttpRequest, *, otherwise: int = 400) -> HttpResponse:
    """Answer what Stripe did not send: 429 where there was much of it, else `otherwise`."""
    wait = wait_for_forging(request, counted=True)
    if wait:
        return HttpResponse(status=429, headers={"Retry-After": str(wait)})
    return HttpResponse(status=otherwise)


def wait_for_forging(request: HttpRequest, *, counted: bool = False) -> int:
    """Return for how many seconds the address has sent enough that is not Stripe's; 0 where it may go on."""
    address = client_network(request)
    usage = get_usage(
        request, group="stripe forgeries", key=lambda *_: address, rate=FORGERIES, increment=counted
    )
    return max(usage["time_left"] + 1, 1) if usage and usage["should_limit"] else 0
