"""A pytest plugin that runs before Django's settings are read: PostgreSQL and Redis of the tests' own.

Loaded by `-p tests.stores`. Nothing that an operator runs is touched: whatever DATABASE_URL and REDIS_URL
say outside, each test run has servers of its own, in a directory that is named by its process and goes
with it, and each of its workers has a database and a Redis number.
"""

import os
import shutil
from pathlib import Path

import psutil
import pytest

from config import embedded

RUNS = Path(__file__).resolve().parent.parent / "var" / "test"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        clear_up_after_the_killed()
        directory = RUNS / str(os.getpid())
        os.environ["TEST_DIRECTORY"] = str(directory)
        os.environ["DATABASE_URL"] = embedded.start_postgres(directory / "postgres", durable=False)
        os.environ["TEST_REDIS"] = embedded.start_redis(directory / "redis", durable=False)
    number = int(worker.removeprefix("gw")) + 1 if worker else 0
    os.environ |= {
        "DEBUG": "1",
        "SECRET_KEY": "tests-only-not-a-secret-0123456789abcdef",
        "REDIS_URL": f"{os.environ['TEST_REDIS']}?db={number}",
        "STRIPE_SECRET_KEY": "sk_test_onlyForTests0123456789ab",
        "STRIPE_API_BASE": "http://127.0.0.1:12111",
        "API_BASE_URL": "http://127.0.0.1:8000",
        "VAR_DIR": f"{os.environ['TEST_DIRECTORY']}/var-{number}",
    }
    for name in (
        "STRIPE_PUBLISHABLE_KEY",
        "STRIPE_WEBHOOK_SECRET",
        "STRIPE_CHECK_RESTRICTED_KEY",
        "ALLOWED_HOSTS",
        "API_SCOPES",
        "FRONTEND_URL",
        "TRUSTED_PROXIES",
        "CELERY_BROKER_URL",
        "CACHE_URL",
        "GATE_WITHOUT_REDIS",
        "STREAM_LIMIT",
    ):
        os.environ.pop(name, None)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and "TEST_DIRECTORY" in os.environ:
        remove(Path(os.environ["TEST_DIRECTORY"]))


def clear_up_after_the_killed() -> None:
    for directory in RUNS.glob("[0-9]*"):
        if directory.name.isdigit() and not psutil.pid_exists(int(directory.name)):
            remove(directory)


def remove(directory: Path) -> None:
    embedded.stop_redis(directory / "redis")
    embedded.stop_postgres(directory / "postgres")
    shutil.rmtree(directory, ignore_errors=True)
