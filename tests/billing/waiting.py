"""Waiting for others in tests with threads, without guessing how long they take."""

import time
from collections.abc import Callable

from django.db import connection

# Of this test's database alone: other tests wait on the same server, and locks on rows name no database.
WAITING = """
    SELECT count(*) FROM pg_locks WHERE NOT granted
    AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
"""


def wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.01)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        # A transaction goes on seeing the activity that it saw first.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(WAITING)
        return bool(cursor.fetchone()[0])
