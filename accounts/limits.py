"""Counting calls a minute by who makes them, with django-ratelimit's counters in Redis.

While Redis is away nothing is counted and nobody refused (see `config/cache.py`).
"""

from django.http import HttpRequest
from django_ratelimit.core import get_usage

SECONDS = 60


def seconds_over(request: HttpRequest, *, group: str, caller: str, limit: int) -> int:
    """Count a call of `caller` in this minute; return the seconds until the next one may come, 0 within the limit.

    A minute is a window of fixed begin, which differs from caller to caller.
    """
    usage = get_usage(request, group=group, key=lambda *_: caller, rate=f"{limit}/{SECONDS}s", increment=True)
    # The window's last second is part of it.
    return max(usage["time_left"] + 1, 1) if usage and usage["should_limit"] else 0
