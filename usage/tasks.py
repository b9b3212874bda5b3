from celery import shared_task

from accounts import clock
from usage import reports, retention
from usage.partitions import ensure_partitions_ahead


@shared_task
def report_usage() -> int:
    """Report new usage to Stripe; return how many reports it took. Two runs at once share the work."""
    reports.make_reports()
    return reports.send_due_reports()


@shared_task
def make_partitions() -> list[str]:
    return ensure_partitions_ahead(clock.now())


@shared_task
def drop_old_partitions() -> list[str]:
    return retention.drop_old_partitions(clock.now())
