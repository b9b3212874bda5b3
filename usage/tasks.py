from celery import shared_task

from accounts import clock
from billing.tasks import enqueue
from usage import corrections, reports
from usage.partitions import ensure_partitions_ahead
from usage.proof import prove_all


@shared_task
def report_usage() -> int:
    """Report new usage to Stripe; return how many reports it took. Two runs at once share the work."""
    reports.make_reports()
    return reports.send_due_reports()


@shared_task
def make_partitions() -> list[str]:
    return ensure_partitions_ahead(clock.now())


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
def send_corrections() -> int:
    """Put corrections on invoices that wait for it; return how many. Two runs at once share the work."""
    return corrections.send_due()
