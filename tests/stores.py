"""A pytest plugin that runs before Django's settings are read: PostgreSQL and Redis of the tests' own.

Loaded by `-p tests.stores`. Nothing that an operator runs is touched: whatever DATABASE_URL and REDIS_URL
say outside, the tests use servers under var/test, one database and one Redis number for each worker.
"""

import os
from pathlib import Path

import pytest

from config import embedded

DIRECTORY = Path(__file__).resolve().parent.parent / "var" / "test"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        os.environ["DATABASE_URL"] = embedded.start_postgres(DIRECTORY / "postgres", durable=False)
        os.environ["TEST_REDIS"] = embedded.start_redis(DIRECTORY / "redis", durable=False)
    number = int(worker.removeprefix("gw")) + 1 if worker else 0
    os.environ |= {
        "DEBUG": "1",
        "SECRET_KEY": "tests-only-not-a-secret-0123456789abcdef",
        "REDIS_URL": f"{os.environ['TEST_REDIS']}?db={number}",
        "STRIPE_SECRET_KEY": "sk_test_onlyForTests0123456789ab",
        "STRIPE_API_BASE": "http://127.0.0.1:12111",
        "API_BASE_URL": "http://127.0.0.1:8000",
        "VAR_DIR": str(DIRECTORY / f"var-{number}"),
    }
    for name in ("STRIPE_PUBLISHABLE_KEY", "ALLOWED_HOSTS", "FRONTEND_URL", "TRUSTED_PROXIES", "CELERY_BROKER_URL"):
        os.environ.pop(name, None)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and "TEST_REDIS" in os.environ:
        embedded.stop_redis(DIRECTORY / "redis")
        embedded.stop_postgres(DIRECTORY / "postgres")
