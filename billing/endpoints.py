"""What Stripe posts to: webhooks, which dj-stripe takes in, and thin events."""

from functools import partial
from uuid import UUID

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from djstripe.views import ProcessWebhookView

from billing.errors import NotSigned
from billing.models import EventDestination
from billing.stripe.keys import settle_keys
from billing.tasks import enqueue, fetch_thin_event
from billing.thin_events import take_in


class WebhookView(ProcessWebhookView):
    """dj-stripe's, made to go by the key in the settings: it looks a key up in its own table before anything else."""

    def post(self, request: HttpRequest, uuid: UUID) -> HttpResponse:
        settle_keys()
        response: HttpResponse = super().post(request, uuid)
        return response


@csrf_exempt
@login_not_required
@require_POST
@transaction.non_atomic_requests
def thin_events(request: HttpRequest, uuid: UUID) -> HttpResponse:
    """Store a thin event. 400 for one that Stripe did not sign just now; 200 for one that is here already."""
    destination = get_object_or_404(EventDestination, uuid=uuid)
    try:
        event, is_new = take_in(
            destination, body=request.body, signature=request.headers.get("Stripe-Signature", "")
        )
    except NotSigned:
        return HttpResponseBadRequest()
    if is_new and event.is_meter_error:
        transaction.on_commit(partial(enqueue, fetch_thin_event, event.id))
    return HttpResponse()
