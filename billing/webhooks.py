"""What Stripe's news means here. An event is a hint: dj-stripe has fetched the object's state before we look."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import receiver
from django.utils import timezone
from djstripe import models as djstripe
from djstripe.event_handlers import djstripe_receiver
from djstripe.signals import webhook_pre_process

from accounts import clock
from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.event_types import EVENT_TYPES
from billing.locks import take_customer_lock
from billing.notices import note_trial_ending
from billing.signals import invoice_drafted
from billing.stripe.companions import sync_companions
from billing.tasks import enqueue, ensure_customer_of


def customers_named(data: dict[str, Any]) -> Iterator[str]:
    """Yield the ids of the customers that an event's data is about: the object's own, and the one it had before."""
    found, before = data.get("object") or {}, data.get("previous_attributes") or {}
    named = found.get("id") if found.get("object") == "customer" else found.get("customer")
    # A payment method that was removed names its customer there alone.
    yield from (each for each in dict.fromkeys([named, before.get("customer")]) if isinstance(each, str))


@receiver(webhook_pre_process)
def serialize_customer_events(sender: type, instance: djstripe.WebhookEventTrigger, **kwargs: object) -> None:
    """Let one event of a customer be processed at a time.

    dj-stripe fetches and then stores: of two events at once, the one that fetched the older state could
    store it last (Stripe says canceled, the mirror says active).
    """
    body = instance.json_body if isinstance(instance.json_body, dict) else {}
    for customer in customers_named(body.get("data") or {}):
        take_customer_lock(customer)
        if body.get("type") == "customer.deleted":
            let_go_of(customer)


def let_go_of(customer_id: str) -> None:
    """Part an organization from a customer that was deleted at Stripe, which is for good.

    Before dj-stripe's own receiver does so, because afterwards nobody knows whose customer it was. What
    Stripe still says of the customer, late, finds no organization any more.
    """
    customers = djstripe.Customer.objects.filter(id=customer_id, subscriber__isnull=False)
    for customer in customers.select_related("subscriber"):
        organization = customer.subscriber
        customer.subscriber, customer.date_purged = None, timezone.now()
        customer.save(update_fields=["subscriber", "date_purged"])
        refresh_entitlement(organization)
        # The sweep would find it too.
        transaction.on_commit(partial(enqueue, ensure_customer_of, str(organization.pk)))


@djstripe_receiver(list(EVENT_TYPES))
def state_changed(sender: type[djstripe.Event], event: djstripe.Event, **kwargs: object) -> None:
    """Refresh the entitlement in the event's own transaction.

    Were it queued on commit, a crash in between would lose it: Stripe has its 200 by then, and a
    replayed event runs nothing.
    """
    organizations = owners_of(event)
    if not organizations:
        return
    sync_companions(event)
    for organization in organizations:
        refresh_entitlement(organization)


@djstripe_receiver("customer.subscription.trial_will_end")
def trial_will_end(sender: type[djstripe.Event], event: djstripe.Event, **kwargs: object) -> None:
    for organization in owners_of(event):
        note_trial_ending(organization, now=clock.now())


@djstripe_receiver("invoice.created")
def renewal_drafted(sender: type[djstripe.Event], event: djstripe.Event, **kwargs: object) -> None:
    """Tell that a period has ended whose invoice is still open, for about an hour."""
    invoice = event.data["object"]
    if invoice.get("status") == "draft" and invoice.get("billing_reason") == "subscription_cycle":
        for organization in owners_of(event):
            invoice_drafted.send(sender=Organization, organization=organization)


def owners_of(event: djstripe.Event) -> list[Organization]:
    customers = djstripe.Customer.objects.filter(
        id__in=list(customers_named(event.data)), subscriber__isnull=False
    )
    return [customer.subscriber for customer in customers.select_related("subscriber")]
