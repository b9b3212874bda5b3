from datetime import timedelta

from celery import shared_task

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeUnavailable
from billing.tasks import enqueue
from usage import corrections, days, rejections, reports, retention, settling
from usage.flush import flush_usage
from usage.partitions import ensure_partitions_ahead
from usage.proof import prove, prove_all


@shared_task
def report_usage() -> int:
    """Report new usage to Stripe; return how many reports it took. Two runs at once share the work."""
    reports.make_reports()
    return reports.send_due_reports()


# Again every two minutes at most, for longer than Stripe keeps a renewal's invoice open.
@shared_task(
    autoretry_for=(StripeUnavailable,),
    retry_backoff=5,
    retry_backoff_max=120,
    retry_jitter=False,
    max_retries=40,
)
def flush_before_closing(organization_id: str) -> int:
    """Report what an organization used, before a drafted invoice is closed; return how many reports that took."""
    return flush_usage(Organization.objects.get(pk=organization_id))


@shared_task
def settle_reports() -> dict[str, int]:
    """Find out by what Stripe counted which reports arrived and which it rejected; return how many of each.

    Those that were ahead of its clock are put back in line.
    """
    outcomes = settling.settle_unanswered()
    outcomes["rejected"] = rejections.find_unnamed()
    if ahead := rejections.put_back_ahead():
        outcomes["ahead"] = ahead
    return dict(outcomes)


@shared_task
def make_partitions() -> list[str]:
    return ensure_partitions_ahead(clock.now())


@shared_task
def sum_usage_days(look_back_days: int | None = None) -> int:
    """Sum up the days that are not, or are out of date; return how many."""
    now = clock.now()
    return days.sum_days(now=now, since=now - timedelta(days=look_back_days) if look_back_days else None)


@shared_task
def prove_usage() -> int:
    """Prove some organizations' usage, and queue the next ones; return how many periods differ.

    Safe to run twice: two chains share the work.
    """
    done = prove_all()
    if done.is_unfinished:
        enqueue(prove_usage)
    return done.differing


@shared_task
def prove_usage_of(organization_id: str) -> int:
    """Prove one organization's usage, for who looks at it; return how many periods. Safe to run twice."""
    return len(prove(Organization.objects.get(pk=organization_id)))


@shared_task
def send_corrections() -> int:
    """Put corrections on invoices that wait for it; return how many. Two runs at once share the work."""
    return corrections.send_due()


@shared_task
def drop_old_partitions() -> list[str]:
    return retention.drop_old_partitions(clock.now())
