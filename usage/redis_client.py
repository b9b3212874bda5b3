from functools import cache

from django.conf import settings
from redis import Redis


@cache
def get_redis() -> Redis:
    """Return this process's connection pool. A call that Redis leaves unanswered for a second fails."""
    return Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=1,
        socket_connect_timeout=1,
        health_check_interval=30,
    )
