"""Clients of the one Redis, or Redis Cluster, that Tollgate counts in."""

from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from usage import restarts

CLUSTER = "+cluster"
OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    # A call that Redis leaves unanswered for a second fails.
    "socket_timeout": 1,
    "socket_connect_timeout": 1,
    # RESP2: nothing comes that was not asked for, so replies can be counted.
    "protocol": 2,
}


def is_cluster() -> bool:
    """Whether REDIS_URL names a node of a cluster, as in redis+cluster://host:port."""
    return urlsplit(settings.REDIS_URL).scheme.endswith(CLUSTER)


@cache
def get_redis() -> Redis:
    """Return this process's client. A cluster's has the same methods, and finds the node by the key's slot."""
    if is_cluster():
        parts = urlsplit(settings.REDIS_URL)
        url = urlunsplit(parts._replace(scheme=parts.scheme.removesuffix(CLUSTER)))
        cluster: Any = RedisCluster.from_url(url, redis_connect_func=restarts.look_at_node, **OPTIONS)
        client: Redis = cluster
        return client
    # A connection that Redis has hung up on is tried anew at once; with Redis down nobody is kept waiting.
    retry = Retry(NoBackoff(), 1)
    options: dict[str, Any] = OPTIONS | {"redis_connect_func": greet, "retry": retry}
    return Redis.from_url(settings.REDIS_URL, health_check_interval=30, **options)


def greet(connection: Any) -> None:
    """Do what redis-py does with a new connection, and then see whose counters are at its other end."""
    connection.on_connect()
    restarts.look(connection)
