"""What Stripe's news means here. An event is a hint: dj-stripe has fetched the object's state before we look."""

from django.dispatch import receiver
from djstripe import models as djstripe
from djstripe.event_handlers import djstripe_receiver
from djstripe.signals import webhook_pre_process

from billing.entitlements import refresh_entitlement
from billing.locks import take_customer_lock

SUBSCRIPTION_EVENTS = [
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "customer.subscription.resumed",
    "customer.subscription.updated",
]


@receiver(webhook_pre_process)
def serialize_customer_events(sender: type, instance: djstripe.WebhookEventTrigger, **kwargs: object) -> None:
    """Let one event of a customer be processed at a time.

    dj-stripe fetches and then stores: of two events at once, the one that fetched the older state could
    store it last (Stripe says canceled, the mirror says active).
    """
    body = instance.json_body
    data = body.get("data", {}).get("object", {}) if isinstance(body, dict) else {}
    customer = data.get("id") if data.get("object") == "customer" else data.get("customer")
    if isinstance(customer, str):
        take_customer_lock(customer)


@djstripe_receiver(SUBSCRIPTION_EVENTS)
def subscription_changed(sender: type[djstripe.Event], event: djstripe.Event, **kwargs: object) -> None:
    """Refresh the entitlement in the event's own transaction.

    Were it queued on commit, a crash in between would lose it: Stripe has its 200 by then, and a
    replayed event runs nothing.
    """
    customer_id = event.data["object"]["customer"]
    customers = djstripe.Customer.objects.filter(id=customer_id, subscriber__isnull=False)
    for customer in customers.select_related("subscriber"):
        refresh_entitlement(customer.subscriber)
