import logging

from celery import Task, shared_task

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import StripeUnavailable
from billing.models import SubscriberMove
from billing.moves import go_on, stalled
from billing.stripe.customers import ensure_customer

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
def begin_price_move(move_id: int) -> None:
    """Hand out a move's subscribers, one task each so that none holds up the rest."""
    for row_id in SubscriberMove.objects.due().filter(move=move_id).values_list("pk", flat=True):
        move_subscriber.delay(row_id)


@shared_task(autoretry_for=(StripeUnavailable,), retry_backoff=True, max_retries=8)
def move_subscriber(row_id: int) -> None:
    """Take the next step with one subscriber of a move. Safe to run twice."""
    rows = SubscriberMove.objects.due().select_related("move__plan", "organization")
    row = rows.filter(pk=row_id).first()
    if row:
        go_on(row)


@shared_task
def continue_price_moves() -> None:
    """Sweep up subscribers whose month has turned, and those that a lost task left behind."""
    for row_id in stalled():
        move_subscriber.delay(row_id)
