from celery import shared_task

from apikeys import leaks
from apikeys.leaks import tell_of_leak

__all__ = ["send_leak_letters", "tell_of_leak"]


@shared_task
def send_leak_letters() -> int:
    """Tell of every leak that nobody has been told of yet; return how many letters went out."""
    return sum(leaks.tell(key_id) for key_id in leaks.untold_keys())
