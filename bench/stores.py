"""PostgreSQL and Redis of the bench's own: durable as in production, empty at the start, gone at the end."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from config import embedded

VAR = Path(__file__).resolve().parent.parent / "var" / "bench"
SECRET = "bench-only-not-a-secret-0123456789abcdefghijk"  # noqa: S105 - signs nothing that lasts.


@contextmanager
def running(name: str, *, durable: bool = True) -> Iterator[dict[str, str]]:
    """Start both stores, and give the environment in which Django uses them.

    Redis appends to its file and syncs it every second, and PostgreSQL waits for its disk at each commit, unless
    `durable` is false. Redis listens on TCP too, as production's does: REDIS_SOCKET_URL is the same one by its
    Unix socket.
    """
    directory = VAR / f"{name}-{os.getpid()}"
    shutil.rmtree(directory, ignore_errors=True)
    try:
        database = embedded.start_postgres(directory / "postgres", durable=durable)
        by_socket = embedded.start_redis(directory / "redis", durable=durable)
        found = environment(database=database, redis_url=listen_on_tcp(by_socket), var=directory)
        yield {**found, "REDIS_SOCKET_URL": by_socket}
    finally:
        embedded.stop_redis(directory / "redis")
        embedded.stop_postgres(directory / "postgres")
        shutil.rmtree(directory, ignore_errors=True)


def environment(*, database: str, redis_url: str, var: Path) -> dict[str, str]:
    """Return production's settings, as an operator sets them."""
    return {
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "SECRET_KEY": SECRET,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "API_BASE_URL": "http://127.0.0.1:8000",
        "STRIPE_SECRET_KEY": "sk_test_onlyForTheBench0123456789",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "DEFAULT_FROM_EMAIL": "Tollgate <tollgate@localhost>",
        "EMAIL_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "VAR_DIR": str(var),
        "DEBUG": "0",
    }


def listen_on_tcp(address: str) -> str:
    """Let the Redis at a Unix socket listen on 127.0.0.1 too; return that as a REDIS_URL."""
    with redis.Redis.from_url(address) as server:
        server.config_set("bind", "127.0.0.1")
        port = free_port()
        server.config_set("port", port)
    return f"redis://127.0.0.1:{port}/0"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
