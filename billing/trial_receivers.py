"""When Stripe tells of a subscription, its trial is noted and what has had its trial is claimed."""

from functools import partial

from django.db import transaction
from djstripe import models as djstripe
from djstripe.event_handlers import djstripe_receiver

from billing.tasks import check_trial_of, enqueue
from billing.trials import settle_trials

TRIAL_EVENTS = [
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.updated",
]


@djstripe_receiver(TRIAL_EVENTS)
def trial_changed(sender: type[djstripe.Event], event: djstripe.Event, **kwargs: object) -> None:
    """Claim in the event's own transaction; ask and tell Stripe once that has committed.

    A crash in between loses nothing: the periodic task finds every trial that is unsettled.
    """
    customer_id = event.data["object"]["customer"]
    customers = djstripe.Customer.objects.filter(id=customer_id, subscriber__isnull=False)
    for customer in customers.select_related("subscriber"):
        for trial in settle_trials(customer.subscriber):
            transaction.on_commit(partial(enqueue, check_trial_of, trial.pk))
