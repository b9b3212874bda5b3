from celery import shared_task

from apikeys import drift, leaks, reservation_sweep, without_redis
from apikeys.leaks import tell_of_leak

__all__ = ["bill_unsettled", "measure_counters", "send_leak_letters", "take_up_uncounted", "tell_of_leak"]


@shared_task
def take_up_uncounted() -> int:
    """Bring counters up to date with what was let in while Redis was out of reach; return of how many customers."""
    return without_redis.take_up()


@shared_task
def bill_unsettled() -> int:
    """Bill reservations in full that nobody settled in time; return how many. Two runs at once share the work."""
    return reservation_sweep.sweep()


@shared_task
def send_leak_letters() -> int:
    """Tell of every leak that nobody has been told of yet; return how many letters went out."""
    return sum(leaks.tell(key_id) for key_id in leaks.untold_keys())


@shared_task
def measure_counters() -> int:
    """Bring counters in line with the ledger where a call died, a thousand customers at a time; return how many."""
    return drift.measure().mended
