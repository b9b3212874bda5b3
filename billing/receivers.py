"""What billing does when there is news: of the apps to its right, and of its own."""

from functools import partial

from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from accounts.models import Organization
from accounts.signals import organization_created
from billing.entitlements import open_entitlement
from billing.models import Entitlement, Notice
from billing.notices import note_change
from billing.signals import entitlement_changed
from billing.subscriptions import LIVE
from billing.tasks import enqueue, ensure_customer_of, reconcile_one, send_notice


@receiver(organization_created)
def entitle_new_organization(
    sender: type[Organization], organization: Organization, **kwargs: object
) -> None:
    """Put a new organization on the free plan at once; Stripe hears of it afterwards, from a worker."""
    open_entitlement(organization)
    transaction.on_commit(partial(enqueue, ensure_customer_of, str(organization.pk)))


@receiver(entitlement_changed)
def note_what_customers_should_know(
    sender: type[Entitlement], entitlement: Entitlement, before: Entitlement, **kwargs: object
) -> None:
    """Write the notices in the change's own transaction: one is there if and only if the other is."""
    note_change(before, entitlement)


@receiver(entitlement_changed)
def ask_whether_it_has_ended(
    sender: type[Entitlement], entitlement: Entitlement, before: Entitlement, **kwargs: object
) -> None:
    """Ask Stripe at once of a subscription that has lapsed: it may have been resumed, and that not heard either."""
    is_lost = before.subscription_id and not entitlement.subscription_id
    # No row of the policy took it, and Stripe has not said that it ended.
    if is_lost and entitlement.policy_id is None and entitlement.status in LIVE:
        transaction.on_commit(partial(enqueue, reconcile_one, str(entitlement.pk)))


@receiver(post_save, sender=Notice)
def send_new_notice(sender: type[Notice], instance: Notice, created: bool, **kwargs: object) -> None:
    if created:
        transaction.on_commit(partial(enqueue, send_notice, str(instance.pk)))
