"""What Tollgate's own tasks ought to have done by now."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from django.db.models import Q

from accounts import clock
from billing import delivery
from billing.doctor import CouldNotMend, Finding, Fix, Severity, check
from billing.models import Notice, NoticeState, Trial
from billing.models.notices import NoticeQuerySet
from billing.models.trials import CARD_WITHIN
from billing.stripe.trials import check_trial

# The tasks look every few minutes.
PATIENCE = timedelta(hours=2)
RECENT = timedelta(days=7)


@check("stuck-notices", "E-mails to customers that ought to have gone out.")
def stuck_notices() -> Iterator[Finding]:
    waiting = overdue_notices().order_by("next_try_at")
    oldest = waiting.first()
    if oldest:
        yield Finding(
            slug="stuck-notices",
            severity=Severity.ERROR,
            subject="",
            sentence=f"{waiting.count()} e-mails to customers wait to be sent, the oldest since "
            f"{oldest.next_try_at:%Y-%m-%d %H:%M} UTC.",
            advice="The task that sends them runs every minute: see that Celery's beat and a worker run.",
            fix=Fix("Send those that are still true.", send_overdue),
        )


def overdue_notices() -> NoticeQuerySet:
    before = clock.now() - PATIENCE
    pending = Q(state=NoticeState.PENDING, next_try_at__lt=before)
    return Notice.objects.filter(pending | Q(state=NoticeState.SENDING, claimed_at__lt=before))


def send_overdue() -> None:
    delivery.give_up_dead_claims(now=clock.now())
    for notice_id in list(overdue_notices().values_list("pk", flat=True)):
        delivery.send(str(notice_id))
    unsent = overdue_notices().count()
    if unsent:
        raise CouldNotMend(f"{unsent} still could not be sent.")


@check("failed-notices", "E-mails to customers that failed, or may have, in the last seven days.")
def failed_notices() -> Iterator[Finding]:
    lost = Notice.objects.filter(
        state__in=[NoticeState.FAILED, NoticeState.UNSURE], created_at__gte=clock.now() - RECENT
    )
    for notice in lost.select_related("organization"):
        yield Finding(
            slug="failed-notices",
            severity=Severity.WARNING,
            subject=str(notice.pk),
            sentence=f"{notice.organization} may not know of “{notice.get_kind_display()}”: {notice.error}",
            advice="Mend the mail server or the address, then choose “Send again” among the e-mails.",
            organization=notice.organization,
        )


@check(
    "unsettled-trials", "Trials whose card nobody held against earlier ones, or that were refused and go on."
)
def unsettled_trials() -> Iterator[Finding]:
    now = clock.now()
    refused = Q(outcome=Trial.Outcome.REFUSED, created_at__lt=now - PATIENCE)
    cardless = Q(outcome=Trial.Outcome.GIVEN, started_at__lt=now - CARD_WITHIN - PATIENCE)
    for trial in Trial.objects.unsettled().filter(refused | cardless).select_related("organization", "plan"):
        yield Finding(
            slug="unsettled-trials",
            severity=Severity.WARNING,
            subject=trial.subscription_id,
            sentence=f"The trial {trial.subscription_id} of {trial.organization} ought to have been "
            f"{'ended' if trial.outcome == Trial.Outcome.REFUSED else 'held against earlier ones'} by now.",
            fix=Fix("Do so now, as the task would have.", partial(check_trial, trial)),
            organization=trial.organization,
        )
