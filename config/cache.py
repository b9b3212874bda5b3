"""The cache of rate limits on pages. With Redis out of reach it is empty: people can still log in."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


class TolerantClient(RedisCacheClient):
    """Answers as an empty cache would where Redis does not."""

    def attempt(self, call: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return call()
        except RedisError:
            logger.warning("Redis is unreachable: page rate limits are not counted")
            return otherwise

    def add(self, key: Any, value: Any, timeout: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).add(key, value, timeout), True)

    def get(self, key: Any, default: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).get(key, default), default)

    def set(self, key: Any, value: Any, timeout: Any) -> None:
        self.attempt(lambda: super(TolerantClient, self).set(key, value, timeout), None)

    def touch(self, key: Any, timeout: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).touch(key, timeout), False)

    def delete(self, key: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).delete(key), False)

    def has_key(self, key: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).has_key(key), False)

    def incr(self, key: Any, delta: Any) -> Any:
        return self.attempt(lambda: super(TolerantClient, self).incr(key, delta), delta)


class TolerantRedisCache(RedisCache):
    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = TolerantClient
