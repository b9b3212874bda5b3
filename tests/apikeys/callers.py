"""Callers of the gate in a process of their own: `python -m tests.apikeys.callers`.

Reads orders, a line of JSON each: {"secret", "callers", "calls", "cost", "moments": [microseconds] or null}. The
callers, threads that begin together, make that many calls each, at one of the moments in turn where there are any.
Answers each order with a line: [[microseconds of an admitted call, …], {reason: how many}].
"""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit


def main() -> None:
    import django  # noqa: PLC0415  (after the parent has said which database)

    django.setup()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)


def carry_out(order: dict) -> tuple[list[int], dict[str, int]]:
    from django.db import connection  # noqa: PLC0415

    from apikeys.gate import admit  # noqa: PLC0415
    from apikeys.instants import from_microseconds, to_microseconds  # noqa: PLC0415

    together = threading.Barrier(order["callers"])
    admitted: list[int] = []
    reasons: Counter[str] = Counter()
    lock = threading.Lock()

    def call() -> None:
        together.wait()
        moments = order["moments"] or [None]
        for moment in moments:
            for _ in range(order["calls"]):
                now = from_microseconds(moment) if moment else None
                decision = admit(order["secret"], cost=order["cost"], now=now)
                with lock:
                    reasons[decision.reason] += 1
                    if decision.admitted:
                        admitted.append(to_microseconds(decision.at))
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(order["callers"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return admitted, dict(reasons)


class Callers:
    """Several such processes, seen from the test."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes

    def call(
        self, secret: str, *, callers: int, calls: int, cost: int = 1, moments: list[int] | None = None
    ) -> tuple[list[int], Counter[str]]:
        """Have all of them call at once; return the moments of the admitted calls and how many got which answer."""
        order = {"secret": secret, "calls": calls, "cost": cost, "moments": moments}
        line = json.dumps({**order, "callers": callers // len(self.processes)})
        for process in self.processes:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        admitted: list[int] = []
        reasons: Counter[str] = Counter()
        for process in self.processes:
            times, counts = json.loads(process.stdout.readline())
            admitted += times
            reasons.update(counts)
        return admitted, reasons


@contextmanager
def running(*, count: int, database: str, redis_url: str) -> Iterator[Callers]:
    """Start `count` processes on a database of the test server, by its name, and on a Redis."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": urlunsplit(parts._replace(path=f"/{database}")),
        "REDIS_URL": redis_url,
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "CACHE_URL": "redis://127.0.0.1:1/0",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.apikeys.callers"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield Callers(processes)
    finally:
        for process in processes:
            process.stdin.close()
        for process in processes:
            process.wait(timeout=60)
            process.stdout.close()


if __name__ == "__main__":
    main()
