"""Reconcile everybody, a slice at a time, so that each has a turn however many there are."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing import doctor
from billing.errors import BillingError, StripeAccessRefused, StripeUnavailable
from billing.models import ReconcileRun, Reconciliation
from billing.stripe.client import is_rate_limit
from billing.stripe.copying import Outcome
from billing.stripe.missed import find_missed
from billing.stripe.orphans import adopt, find_orphans
from billing.stripe.reconciling import reconcile, reconcile_catalogue

logger = logging.getLogger(__name__)

SLICE = 200
# A task is killed after 300 seconds, and the last organization may take a while where Stripe is slow.
SLICE_SECONDS = 120
GIVE_UP_AFTER = 3  # Organizations in a row for which Stripe gave no answer: it is down.
# An event that is younger may still be on its way.
IN_FLIGHT = timedelta(hours=1)
# What a run reports at its end: it repairs none of these, because each asks for a decision.
REPORTED = ["two-subscriptions", "two-customers", "unbilled-meters"]


def begin_run() -> tuple[ReconcileRun, bool]:
    """Return the run that is under way, else a new one, and whether it is new. Of two at once one is new."""
    now = clock.now()
    dead = ReconcileRun.objects.under_way().filter(started_at__lte=now - ReconcileRun.LONGEST)
    dead.update(finished_at=now, stopped="It was not finished within its time.")
    try:
        with transaction.atomic():
            return ReconcileRun.objects.create(started_at=now), True
    except IntegrityError:
        return ReconcileRun.objects.under_way().get(), False


def reconcile_all() -> ReconcileRun:
    """Reconcile every organization and return the finished run. For a command: workers do it slice by slice."""
    run, is_new = begin_run()
    if is_new:
        begin(run)
    while reconcile_slice(run):
        pass
    return finish(run)


def begin(run: ReconcileRun) -> None:
    """Do what comes before the first organization: the catalogue, and customers that have lost theirs."""
    try:
        record(run, reconcile_catalogue())
        for orphan in find_orphans():
            outcome = Outcome()
            if orphan.is_adoptable and adopt(orphan):
                outcome.repaired.append(orphan.sentence)
            else:
                outcome.problems.append(orphan.sentence)
            record(run, outcome, organization=orphan.organization)
    except StripeUnavailable as error:
        stop(run, error)
    except BillingError as error:
        record(run, Outcome(problems=[str(error)]))


def reconcile_slice(run: ReconcileRun) -> bool:
    """Reconcile the next organizations, the least recently tried first; return whether there are more.

    Safe to run twice and in two workers at once: they share the work.
    """
    until = time.monotonic() + SLICE_SECONDS
    run.refresh_from_db()
    unanswered = 0
    for organization in waiting(run)[:SLICE]:
        if run.finished_at or time.monotonic() > until:
            break
        if not claim(organization.pk, run):
            continue
        try:
            reconcile_one(run, organization)
            unanswered = 0
        except StripeUnavailable as error:
            unanswered += 1
            if unanswered == GIVE_UP_AFTER or isinstance(error, StripeAccessRefused) or is_rate_limit(error):
                stop(run, error)
    return run.finished_at is None and waiting(run).exists()


def waiting(run: ReconcileRun) -> QuerySet[Organization]:
    untried = Q(reconciliation=None) | Q(reconciliation__tried_at__lt=run.started_at)
    order = F("reconciliation__tried_at").asc(nulls_first=True)
    return Organization.objects.filter(untried, entitlement__isnull=False).order_by(order, "pk")


def claim(organization_id: UUID, run: ReconcileRun) -> bool:
    now = clock.now()
    _, is_new = Reconciliation.objects.get_or_create(
        organization_id=organization_id, defaults={"tried_at": now}
    )
    untried = Reconciliation.objects.filter(organization=organization_id, tried_at__lt=run.started_at)
    return is_new or bool(untried.update(tried_at=now))


def reconcile_one(run: ReconcileRun, organization: Organization) -> None:
    """Reconcile one organization and keep in the run what came of it. Raises StripeUnavailable."""
    try:
        outcome = reconcile(organization)
    except StripeUnavailable as error:
        record(run, Outcome(problems=[str(error)]), organization=organization)
        raise
    except Exception as error:  # One organization's failure must not keep the others from their turn.
        logger.exception("%s could not be reconciled", organization.ref)
        outcome = Outcome(problems=[f"{type(error).__name__}: {error}"])
    record(run, outcome, organization=organization, counts=True)


def reconcile_some(organizations: Iterable[Organization]) -> ReconcileRun:
    """Reconcile the catalogue and these organizations. Raises StripeUnavailable."""
    run = ReconcileRun.objects.create(scope=ReconcileRun.Scope.SOME)
    try:
        record(run, reconcile_catalogue())
        for organization in organizations:
            reconcile_one(run, organization)
    except StripeUnavailable as error:
        stop(run, error)
        raise
    with locked(run):
        run.finished_at = clock.now()
    return run


def finish(run: ReconcileRun) -> ReconcileRun:
    """Close a run; what asks for a decision comes among its findings. Finishing it again changes nothing."""
    run.refresh_from_db()
    if run.finished_at is None:
        findings = doctor.examine(REPORTED)
        missed = missed_sentence(run)
        with locked(run):
            for finding in findings:
                run.note(finding.slug, finding.sentence, organization=finding.organization)
            if missed:
                run.note("missed-webhooks", missed)
            run.finished_at = clock.now()
    return run


def missed_sentence(run: ReconcileRun) -> str:
    """Return how many webhooks never arrived since the run before; empty where all did."""
    before = ReconcileRun.objects.complete().exclude(pk=run.pk).first()
    endpoint = djstripe.WebhookEndpoint.objects.exclude(secret="").order_by("created").first()
    if endpoint is None:
        return ""
    since = max(endpoint.created, before.started_at - IN_FLIGHT) if before else endpoint.created
    try:
        missed = Counter(each.type for each in find_missed(since=since, until=run.started_at - IN_FLIGHT))
    except BillingError as error:
        return f"Stripe's events could not be compared with those that arrived: {error}"
    if not missed:
        return ""
    types = ", ".join(f"{count} {name}" for name, count in missed.most_common())
    return (
        f"{missed.total()} webhooks never arrived since {since:%Y-%m-%d %H:%M} UTC: {types}. "
        "What they told is here now."
    )


def record(
    run: ReconcileRun,
    outcome: Outcome,
    *,
    organization: Organization | None = None,
    counts: bool = False,
    fails: bool = False,
) -> None:
    with locked(run):
        run.organizations += counts
        run.repaired += len(outcome.repaired)
        run.failures += bool(outcome.problems) and (counts or fails)
        for sentence in outcome.repaired:
            run.note("repaired", sentence, organization=organization)
        for sentence in outcome.problems:
            run.note("problem", sentence, organization=organization)


def stop(run: ReconcileRun, error: StripeUnavailable) -> None:
    """End a run before its end. The next one begins with those that had no turn."""
    logger.warning("The reconciliation stops: %s", error)
    with locked(run):
        run.stopped, run.finished_at = str(error)[:300], clock.now()


@contextmanager
def locked(run: ReconcileRun) -> Iterator[None]:
    """Change a run that another worker may be counting in as well."""
    with transaction.atomic():
        run.refresh_from_db(from_queryset=ReconcileRun.objects.select_for_update())
        yield
        run.save()
