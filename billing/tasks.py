import logging

from celery import Task, shared_task

from accounts import clock
from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import StripeUnavailable
from billing.models import IdempotencyKey, Trial
from billing.models.idempotency import KEPT
from billing.stripe.customers import ensure_customer
from billing.stripe.trials import check_trial

logger = logging.getLogger(__name__)


def enqueue(task: Task, *args: str | int) -> None:
    """Queue a task that a periodic sweep would also find: a broker that is down delays it, and loses nothing."""
    try:
        task.delay(*args)
    except task.OperationalError:
        logger.warning("The broker is unreachable: %s%s waits for the next sweep", task.name, args)


@shared_task(autoretry_for=(StripeUnavailable,), retry_backoff=True, max_retries=8)
def ensure_customer_of(organization_id: str) -> None:
    """Give an organization its Stripe customer. Safe to run twice."""
    ensure_customer(Organization.objects.get(pk=organization_id))


@shared_task
def ensure_customers() -> None:
    """Sweep up organizations that still have no Stripe customer, one task each so that none holds up the rest."""
    # In any order: some that Stripe rejects each time must not keep the rest out of the first 500.
    waiting = Organization.objects.filter(djstripe_customers=None).order_by("?")[:500]
    for organization_id in waiting.values_list("pk", flat=True):
        ensure_customer_of.delay(str(organization_id))


@shared_task
def refresh_entitlements(plan_id: int | None = None) -> int:
    """Bring entitlements in line with the mirror and the plans; return how many could not be.

    Of one plan where staff changed it; of all every hour, which also finds what a lost task left behind.
    """
    organizations = Organization.objects.filter(entitlement__isnull=False)
    if plan_id is not None:
        organizations = organizations.filter(entitlement__plan=plan_id)
    failed = 0
    for organization in organizations.iterator(chunk_size=500):
        try:
            refresh_entitlement(organization)
        except Exception:  # One organization's failure must not keep the others from their limits.
            failed += 1
            logger.exception("The entitlement of %s could not be refreshed", organization.ref)
    return failed


@shared_task
def purge_idempotency_keys() -> None:
    """Forget the API's writes of more than a day ago."""
    IdempotencyKey.objects.older_than(clock.now() - KEPT).delete()


@shared_task(autoretry_for=(StripeUnavailable,), retry_backoff=True, max_retries=8)
def check_trial_of(trial_id: int) -> None:
    """Hold a trial against earlier ones, and end it where it is a second one. Safe to run twice."""
    trial = Trial.objects.select_related("organization").filter(pk=trial_id).first()
    if trial:
        check_trial(trial)


@shared_task
def check_trials() -> None:
    """Sweep up trials whose card was not seen yet, and refused ones that Stripe has not ended yet."""
    waiting = Trial.objects.unsettled().order_by("?")[:500]
    for trial_id in waiting.values_list("pk", flat=True):
        check_trial_of.delay(trial_id)
