"""What an event changes besides the object it names, fetched with it.

A subscription's status and the invoice that explains it arrive by two events. The second may be hours late or lost:
until then the policy would count from the wrong day, or a customer who has paid would go on being limited.
"""

from djstripe import models as djstripe

from billing.stripe.client import get_client, translated_errors
from billing.subscriptions import OWING, subscription_of

# Of an invoice, what changes its subscription's status.
SETTLING = frozenset(
    {
        "invoice.marked_uncollectible",
        "invoice.paid",
        "invoice.payment_action_required",
        "invoice.payment_failed",
        "invoice.voided",
    }
)


def sync_companions(event: djstripe.Event) -> None:
    """Fetch what belongs to an event's object into the mirror. The customer's lock is held.

    Raises StripeUnavailable or StripeRejected.
    """
    data = event.data["object"]
    if event.type in SETTLING:
        subscription_id = subscription_of(data)
        if subscription_id:
            sync_subscription(subscription_id)
    elif data["object"] == "subscription":
        mirrored = djstripe.Subscription.objects.filter(id=data["id"]).first()
        if mirrored and mirrored.stripe_data["status"] in OWING:
            sync_open_invoices(data["id"])


def sync_subscription(subscription_id: str) -> None:
    with translated_errors():
        fetched = get_client().v1.subscriptions.retrieve(subscription_id)
        djstripe.Subscription.sync_from_stripe_data(fetched)


def sync_open_invoices(subscription_id: str) -> None:
    with translated_errors():
        listed = get_client().v1.invoices.list(
            {"subscription": subscription_id, "status": "open", "limit": 100}
        )
        for invoice in listed.auto_paging_iter():
            djstripe.Invoice.sync_from_stripe_data(invoice)
