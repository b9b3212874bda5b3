"""How fast usage gets from Redis into the ledger: `python -m bench.drain`.

The real command, from a filled stream to an empty one: reading, ledger, rollups, acknowledging. Beside it, in the same
run, a raw binary COPY of the same rows, made beforehand, into the same table: partitioned, with its indexes. Both by
one process and by two. And drains that have a core of their own, which each shares with its PostgreSQL process. How
many cores were at work says what the machine has to do with it: of two a single drain leaves little to another.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench import stores, world
from bench.report import Report, Table, busy_with_others
from bench.stats import Figure, Spread, ratio, shuffled_rounds

ORGANIZATIONS, KEYS_EACH = 100, 2
ENDPOINTS = [f"/v1/{noun}/<int:id>" for noun in ("forecasts", "stations", "alerts", "maps")]
STATUSES, SHARES = [200, 201, 404, 422], [85, 8, 5, 2]
HOURS = 2
BLOCK = 1000  # Rows a write: what the drain has in a page.
KINDS = {
    f"{what}, {workers}": (what, number, False)
    for number, workers in ((1, "one process"), (2, "two"))
    for what in ("copy", "drain")
} | {"drain, one on one core": ("drain", 1, True), "drain, two on a core each": ("drain", 2, True)}


def make_entries(number: int, *, keys: Sequence[tuple[str, str]], now: int, seed: int) -> Iterator[bytes]:
    """Yield events of the last two hours as the stream has them. Response times are log-normal, 33 ms in the middle."""
    from accounts import clock
    from billing.periods import calendar_month
    from usage.batches import microseconds
    from usage.events import Event

    chance = random.Random(seed)  # noqa: S311 - traffic, not a secret.
    month = microseconds(calendar_month(clock.now()).start)
    span = HOURS * 3_600_000_000
    for place in range(number):
        organization, key = chance.choice(keys)
        occurred = now - span + span * place // number
        event = Event.of_call(
            occurred=occurred,
            organization=organization,
            api_key=key,
            meter="requests",
            units=1,
            period=min(month, occurred),
            endpoint=chance.choice(ENDPOINTS),
            method="GET",
            status=chance.choices(STATUSES, SHARES)[0],
            response_ms=int(chance.lognormvariate(3.5, 0.9)),
        )
        yield event.encode().encode()


def fill_stream(entries: Sequence[bytes]) -> None:
    from usage.redis_client import get_redis
    from usage.stream import STREAM

    redis = get_redis()
    redis.delete(STREAM)
    for start in range(0, len(entries), 5000):
        pipeline = redis.pipeline(transaction=False)
        for entry in entries[start : start + 5000]:
            pipeline.execute_command("XADD", STREAM, "*", "e", entry)
        pipeline.execute()


def write_rows(entries: Sequence[bytes], path: Path) -> None:
    """Write the rows of a raw COPY, each block after its length."""
    from usage.batches import Batch

    batch = Batch(start=0, end=2**62)
    with path.open("wb") as file:
        for start in range(0, len(entries), BLOCK):
            block = batch.add(entries[start : start + BLOCK])
            file.write(len(block).to_bytes(4) + block)


def copy_rows(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while length := file.read(4):
            yield file.read(int.from_bytes(length))


class Taken(NamedTuple):
    """How long something took, and how many cores were at work meanwhile, whosever work it was."""

    seconds: float
    cores: float


class Worker:
    """A process that has all it needs and waits for the word."""

    def __init__(self, what: str, argument: str = "", *, core: int | None = None) -> None:
        pinned = [] if core is None else ["--core", str(core)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.drain", "--worker", what, argument, *pinned],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.expect("ready")

    def expect(self, word: str) -> None:
        said = self.process.stdout.readline().strip() if self.process.stdout else ""
        if said != word:
            raise AssertionError(f"The worker says {said!r}, not {word!r}.")

    def go(self) -> None:
        if self.process.stdin:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def finish(self) -> None:
        self.expect("done")

    def end(self) -> None:
        self.process.communicate()


def work(what: str, argument: str, *, core: int | None) -> None:
    """Be a worker, on one core alone where it is given, and its PostgreSQL process with it."""
    world.set_up()
    from django.core.management import call_command
    from django.db import connection

    from usage.batches import BEGINNING, END
    from usage.ledger import COPY_NEW

    connection.ensure_connection()
    if core is not None:
        for process in (0, connection.connection.info.backend_pid):
            os.sched_setaffinity(process, {core})
    blocks = list(copy_rows(Path(argument))) if what == "copy" else []
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "copy":
        with connection.cursor() as cursor, cursor.copy(COPY_NEW) as copy:
            copy.write(BEGINNING)
            for block in blocks:
                copy.write(block)
            copy.write(END)
    else:
        call_command("drain_usage", once=True)
    print("done", flush=True)


def measure(what: str, workers: int, entries: Sequence[bytes], *, is_pinned: bool) -> Taken:
    """Return what it takes so many workers to store these events together, and check that all are there."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_event")
        cursor.execute("SELECT coalesce(sum(calls), 0) FROM usage_rollup")
        counted = cursor.fetchone()[0]
    paths = [Path(os.environ["VAR_DIR"]) / f"rows-{number}" for number in range(workers)]
    if what == "copy":
        for number, path in enumerate(paths):
            write_rows(entries[number::workers], path)
    else:
        fill_stream(entries)
    cores: list[int | None] = [*sorted(os.sched_getaffinity(0))] if is_pinned else [None] * workers
    if len(cores) < workers:
        raise AssertionError(f"{workers} workers cannot have a core each: there are {len(cores)}.")
    crew = [Worker(what, str(path), core=core) for path, core in zip(paths, cores, strict=False)]
    began, worked = time.perf_counter(), core_seconds()
    for worker in crew:
        worker.go()
    for worker in crew:
        worker.finish()
    seconds = time.perf_counter() - began
    taken = Taken(seconds, (core_seconds() - worked) / seconds)
    for worker in crew:
        worker.end()  # Which takes a process a while, and is no work of the drain's.
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_event")
        stored = cursor.fetchone()[0]
        cursor.execute("SELECT coalesce(sum(calls), 0) FROM usage_rollup")
        counted = cursor.fetchone()[0] - counted
        cursor.execute("VACUUM ANALYZE usage_rollup")  # As autovacuum does between batches.
    if stored != len(entries) or (what == "drain" and counted != stored):
        raise AssertionError(f"{what}: {stored} stored and {counted} counted of {len(entries)}.")
    return taken


def core_seconds() -> float:
    """Return for how long cores have been at work since the machine was started, all of them together."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait)


def here(*, events: int, rounds: int) -> dict[str, Any]:
    """Return what each kind took, round by round. The first round, in which rollups are new, does not count."""
    world.set_up()
    from accounts import clock
    from apikeys.models import APIKey
    from usage.batches import microseconds
    from usage.redis_client import get_redis
    from usage.stream import STREAM

    world.make_tables()
    world.sell(per_minute=world.PER_MINUTE, burst=None)
    world.enroll(ORGANIZATIONS, keys_each=KEYS_EACH)
    keys = [(str(whose), str(key)) for whose, key in APIKey.objects.values_list("organization_id", "pk")]
    now = microseconds(clock.now())
    samples: dict[str, list[Taken]] = {name: [] for name in KINDS}
    entries: list[bytes] = []
    for number, name in enumerate(shuffled_rounds(KINDS, rounds=rounds + 1)):
        what, workers, is_pinned = KINDS[name]
        if number % len(KINDS) == 0:
            entries = list(make_entries(events, keys=keys, now=now, seed=number))
        taken = measure(what, workers, entries, is_pinned=is_pinned)
        if number >= len(KINDS):
            samples[name].append(taken)
    fill_stream(entries)
    size: Any = get_redis().execute_command("MEMORY", "USAGE", STREAM, "SAMPLES", 0)
    return {"samples": samples, "bytes": size / events, "entry": sum(map(len, entries)) / events}


def run(*, events: int, rounds: int) -> Report:
    notes = busy_with_others()
    with stores.running("drain") as environment:
        arguments = ["--here", "--events", str(events), "--rounds", str(rounds)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.drain", *arguments],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
    found = json.loads(done.stdout)
    samples = {name: [Taken(*each) for each in rounds] for name, rounds in found["samples"].items()}
    spreads = {name: Spread.of([each.seconds for each in taken]) for name, taken in samples.items()}
    cores = {name: Spread.of([each.cores for each in taken]).median for name, taken in samples.items()}
    rows = [
        [
            name,
            *(f"{events / seconds:,.0f}" for seconds in (spread.high, spread.median, spread.low)),
            f"{cores[name]:.2f}",
        ]
        for name, spread in spreads.items()
    ]
    columns = ["", "slow quartile", "events a second", "quick", f"of {os.cpu_count()} cores at work"]
    table = Table(f"{events:,} events into the ledger", columns, rows)
    medians = {name: spread.median for name, spread in spreads.items()}
    one, two = medians["drain, one process"], medians["drain, two"]
    copied = ratio(medians["copy, two"], medians["copy, one process"])
    return Report(
        "drain",
        [table],
        [
            Figure("drain over raw COPY, one process each", ratio(one, medians["copy, one process"]), 2.0),
            Figure("drain over raw COPY, two processes each", ratio(two, medians["copy, two"]), 2.0),
            # Half is what two can do that share nothing; these share a Redis, a log and two cores with both.
            Figure(
                "two drains over one, for the same events, a core each",
                ratio(medians["drain, two on a core each"], medians["drain, one on one core"]),
                0.7,
            ),
        ],
        {"seconds": {name: spread.as_dict() for name, spread in spreads.items()}, **found},
        [
            *notes,
            f"Two drains over one where the cores are everybody's: {ratio(two, one):.2f}; two COPYs over one: "
            f"{copied:.2f}.",
            f"An event waits in Redis in {found['bytes']:.0f} bytes, of which it says {found['entry']:.0f}.",
        ],
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drain", description=__doc__)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(*options.worker, core=options.core)
        return 0
    if options.here:
        sys.stdout.write(json.dumps(here(events=options.events, rounds=options.rounds)))
        return 0
    run(events=options.events, rounds=options.rounds).publish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
