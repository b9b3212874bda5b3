"""Waiting for others in tests with threads, without guessing how long they take."""

import time
from collections.abc import Callable

from django.db import connection

# Not pg_stat_activity, which stays as it was first seen in a transaction. Locks on rows name no database.
WAITING = """
    SELECT count(*) FROM pg_locks WHERE NOT granted
    AND (database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.01)


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        return bool(cursor.fetchone()[0])
