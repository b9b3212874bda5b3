"""Counting calls a minute by who makes them, with django-ratelimit's counters in Redis.

While Redis is away nothing is counted and nobody refused (see `config/cache.py`).
"""

from django.http import HttpRequest
from django_ratelimit.core import get_usage

SECONDS = 60

# Calls by which customers manage keys, plan and money: of one API key, or of one person with a session. They are
# not the gate's, or who hammers a leaked key would keep its owner from revoking it with another one.
MANAGEMENT_READS = 300
MANAGEMENT_WRITES = 60  # Each is several calls to Stripe.

# Calls of the API that are answered with 401, from one address: guesses, and programs that forgot their key. Many,
# because a firm's programs may share an address, and one of them with an old key must not blind the rest to why.
KEY_REFUSALS = 300
SERVICE_TOKEN_REFUSALS = 30  # Only the operator's own servers send them.
# Calls that send usage events, of one service token. Each may bring as many as a thousand.
EVENT_CALLS = 30_000


def seconds_over(request: HttpRequest, *, group: str, caller: str, limit: int) -> int:
    """Count a call of `caller` in this minute; return the seconds until the next one may come, 0 within the limit.

    A minute is a window of fixed begin, which differs from caller to caller.
    """
    usage = get_usage(request, group=group, key=lambda *_: caller, rate=f"{limit}/{SECONDS}s", increment=True)
    # The window's last second is part of it.
    return max(usage["time_left"] + 1, 1) if usage and usage["should_limit"] else 0
