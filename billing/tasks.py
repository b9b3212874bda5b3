import logging

from celery import Task, shared_task
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from accounts import clock
from accounts.models import Organization
from billing import delivery, thin_events
from billing.entitlements import refresh_entitlement
from billing.errors import BillingError, StripeUnavailable
from billing.models import Entitlement, IdempotencyKey, Notice, ReconcileRun, SubscriberMove, ThinEvent, Trial
from billing.models.idempotency import KEPT
from billing.moves import go_on, stalled
from billing.notices import note_trial_ending
from billing.reconciliation import begin, begin_run, finish, reconcile_slice
from billing.retention import purge_history
from billing.stripe.customers import ensure_customer
from billing.stripe.event_destinations import retire_replaced_destinations
from billing.stripe.reconciling import reconcile
from billing.stripe.trials import check_trial
from billing.stripe.webhook_endpoints import retire_replaced_endpoints

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
    """Bring entitlements in line with the mirror, the plans and the policy; return how many could not be.

    Of one plan where staff changed it; of all every hour, which also finds what a lost task left behind.
    """
    organizations = Organization.objects.filter(entitlement__isnull=False)
    if plan_id is not None:
        organizations = organizations.filter(entitlement__plan=plan_id)
    return refresh_each(organizations)


@shared_task
def refresh_entitlements_in(status: str) -> int:
    """Let a changed policy act on whoever has a subscription in `status`; return how many could not be refreshed.

    Also where another subscription decides until now: the change may be what makes this one decide.
    """
    in_it = Q(entitlement__status=status) | Q(djstripe_customers__subscriptions__stripe_data__status=status)
    found = Organization.objects.filter(in_it, entitlement__isnull=False).distinct().values("pk")
    return refresh_each(Organization.objects.filter(pk__in=found))


# More than a minute's work waits for the next minute. The gate does not wait: it refreshes who calls.
DUE_AT_ONCE = 2_000


@shared_task
def refresh_due_entitlements() -> int:
    """Move on the entitlements whose time is up, whether or not anybody calls; return how many could not be.

    The gate needs none of this. The customer does: an e-mail says that the limits have changed.
    """
    due = Entitlement.objects.filter(valid_until__lte=clock.now())
    # At the turn of a month everybody on the free plan is due: those with a subscription go first.
    is_free = ExpressionWrapper(Q(status="none"), BooleanField())
    first = due.order_by(is_free.asc(), "valid_until").values_list("pk", flat=True)[:DUE_AT_ONCE]
    return refresh_each(Organization.objects.filter(pk__in=list(first)))


def refresh_each(organizations: QuerySet[Organization]) -> int:
    """Refresh the entitlement of each; return how many failed. One's trouble does not keep the others from theirs."""
    failed = 0
    for organization in organizations.iterator(chunk_size=500):
        try:
            refresh_entitlement(organization)
        except Exception:  # One organization's failure must not keep the others from their limits.
            failed += 1
            logger.exception("The entitlement of %s could not be refreshed", organization.ref)
    return failed


@shared_task
def reconcile_organizations() -> None:
    """Begin the nightly comparison of all organizations with Stripe, or go on with one that is under way."""
    run, is_new = begin_run()
    if is_new:
        begin(run)
    enqueue(reconcile_next, run.pk)


@shared_task
def reconcile_next(run_id: int) -> None:
    """Reconcile the next slice and queue the one after it. Safe to run twice: two chains share the work."""
    run = ReconcileRun.objects.get(pk=run_id)
    if reconcile_slice(run):
        enqueue(reconcile_next, run_id)
    else:
        finish(run)


@shared_task(autoretry_for=(StripeUnavailable,), retry_backoff=True, max_retries=8)
def reconcile_one(organization_id: str) -> None:
    """Fetch what Stripe knows of an organization of which a webhook must have been lost. Safe to run twice."""
    reconcile(Organization.objects.get(pk=organization_id))


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


@shared_task(autoretry_for=(StripeUnavailable,), retry_backoff=True, max_retries=8)
def fetch_thin_event(event_id: str) -> None:
    """Fetch what a meter error is about. Safe to run twice."""
    thin_events.fetch_details(event_id)


@shared_task
def fetch_thin_events() -> None:
    """Sweep up meter errors whose details are not here yet, one task each."""
    waiting = ThinEvent.objects.without_details().order_by("?")[:100]
    for event_id in waiting.values_list("pk", flat=True):
        fetch_thin_event.delay(event_id)


@shared_task
def purge_stripe_history() -> dict[str, int]:
    """Delete what is past its time of Stripe's events and of the requests that brought them."""
    return purge_history()


@shared_task
def retire_replaced() -> list[str]:
    """Remove from Stripe the endpoints that were replaced and that nothing waits for; return their ids."""
    retired = []
    for retire in (retire_replaced_endpoints, retire_replaced_destinations):
        try:
            retired += retire()
        except BillingError:  # The one must not keep the other; both are tried again in an hour.
            logger.warning("%s has to wait", retire.__name__, exc_info=True)
    return retired


@shared_task
def note_trials_ending() -> None:
    """Find the trials that end soon, also those of whose end no webhook has told."""
    now = clock.now()
    for organization in Organization.objects.filter(entitlement__status="trialing").iterator(chunk_size=500):
        note_trial_ending(organization, now=now)


@shared_task
def send_notice(notice_id: str) -> None:
    """Send one e-mail to a customer. Safe to run twice."""
    delivery.send(notice_id)


@shared_task
def send_notices() -> None:
    """Send what a lost task or a failed try left behind, one task each so that none holds up the rest."""
    now = clock.now()
    delivery.give_up_dead_claims(now=now)
    waiting = Notice.objects.due(now).order_by("next_try_at").values_list("pk", flat=True)[:500]
    for notice_id in waiting:
        send_notice.delay(str(notice_id))


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
