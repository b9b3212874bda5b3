from datetime import timedelta

from celery import shared_task

from accounts import clock
from usage import days, reports
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
def sum_usage_days(look_back_days: int | None = None) -> int:
    """Sum up the days that are not, or are out of date; return how many."""
    now = clock.now()
    return days.sum_days(now=now, since=now - timedelta(days=look_back_days) if look_back_days else None)
