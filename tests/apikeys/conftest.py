"""A Redis that a test may stop and start."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from config import embedded
from tests.apikeys.reserving import Server
from tests.apikeys.sending import Sender
from usage import outage
from usage.lines import lines
from usage.redis_client import get_redis


class OwnRedis:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""

    def start(self, *, durable: bool = True) -> None:
        self.url = embedded.start_redis(self.directory, durable=durable)

    def stop(self) -> None:
        embedded.stop_redis(self.directory)

    def restart_empty(self) -> None:
        """Start it without what it knew: its memory was all there was."""
        get_redis().flushall()
        self.stop()
        self.start()


@pytest.fixture
def own_redis(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnRedis]:
    """This test's Redis, running; the process asks it again at the very next call after an outage."""
    monkeypatch.setattr(outage, "RETRY_SECONDS", 0)
    own = OwnRedis(tmp_path / "redis")
    own.start()
    before, settings.REDIS_URL = settings.REDIS_URL, own.url
    get_redis.cache_clear()
    lines.close()
    yield own
    settings.REDIS_URL = before
    lines.close()
    get_redis.cache_clear()
    own.stop()


@pytest.fixture
def server(client: Any, organization: Any, api_key: Any) -> Server:
    """A server that asks about Acme's key."""
    return Server(client, organization, api_key.secret)


@pytest.fixture
def post(client: Any, organization: Any) -> Sender:
    """One of the operator's services, which sends usage events."""
    return Sender(client)


@pytest.fixture
def counted_redis(own_redis: OwnRedis) -> Redis:
    """A Redis that nobody else sends commands to: other workers share theirs, and its statistics."""
    return get_redis()
