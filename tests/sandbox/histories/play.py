"""Playing histories: 24 months of one customer's life, every invariant held at the end and on the way.

python -m tests.sandbox.histories.play --count 1000 --seed 1

plays them on every core. A history that breaks an invariant is made as short as hypothesis can make it
and printed as Python, ready for `play(plan)`; the same seed and count find it again.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import os
import pathlib
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import stripe

from sandbox import Sandbox
from sandbox.contract.recorder import Recorder
from sandbox.contract.spec import load_spec
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY
from tests.sandbox.histories.actions import DAY, Step, World, plans
from tests.sandbox.histories.invariants import check_all
from tests.sandbox.histories.watching import Watch

BEGIN = 1_769_904_000  # 1 February 2026: the 24 months end in a leap year.
MONTHS_24 = 730 * DAY
CHUNK = 20
# Most plans are cut short by the end of the 24 months; the rest of the time is let pass.
EVERY = 8


@dataclass
class Tally:
    """What some histories came to."""

    histories: int = 0
    events: int = 0
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.histories += other.histories
        self.events += other.events
        self.done += other.done
        self.refused += other.refused
        self.seconds += other.seconds
        self.failures += other.failures


def play(plan: list[Step], *, path: pathlib.Path | None = None) -> Tally:
    """Play one history and return what it came to. Raises AssertionError where an invariant breaks."""
    recorder = Recorder(load_spec())
    sandbox = Sandbox(path=path)
    client = stripe.StripeClient(KEY, http_client=SandboxHTTPClient(sandbox, recorder=recorder))
    world = World(sandbox, client, start=BEGIN)
    watch = Watch(world)
    sandbox.observers.append(_heard(watch))
    for number, step in enumerate(plan):
        if world.now >= BEGIN + MONTHS_24:
            break
        world.take(step)
        _raise(watch)
        if number % EVERY == EVERY - 1:
            check_all(world, watch)
    world.wait(max(BEGIN + MONTHS_24 - world.now, 0))
    _raise(watch)
    check_all(world, watch)
    assert not recorder.problems, "; ".join(str(each) for each in recorder.problems[:3])
    assert not sandbox.mishaps, sandbox.mishaps[0]
    if path is not None:
        _check_it_survives(sandbox, path)
    return Tally(1, watch.seen, world.done, world.refused)


def _heard(watch: Watch) -> Any:
    # An observer runs inside a request, where the sandbox would take a failed check for a bug of its own.
    def listen(event: dict[str, Any]) -> None:
        if watch.failure is None:
            try:
                watch.saw(event)
            except AssertionError as error:
                watch.failure = error

    return listen


def _raise(watch: Watch) -> None:
    if watch.failure is not None:
        raise watch.failure


def _check_it_survives(sandbox: Sandbox, path: pathlib.Path) -> None:
    """Everything that was in memory is read back from the file."""
    before = {kind: rows for kind, rows in sandbox.store._kept.items() if rows}
    sandbox.close()
    again = Sandbox(path=path)
    after = {kind: rows for kind, rows in again.store._kept.items() if rows}
    again.close()
    assert after == before, (
        f"a restart changed {[kind for kind in before if after.get(kind) != before[kind]]}"
    )


def play_many(count: int, seed: int) -> Tally:
    """Play `count` histories of one seed; a failure is shortened and described in the tally."""
    tally, started = Tally(), time.monotonic()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    # Left alone, most plans are short; every fourth chunk is left alone.
    @hypothesis.given(plans(0 if seed % 4 == 0 else 12))
    def one(plan: list[Step]) -> None:
        # One in ten is kept in a file as well.
        with tempfile.TemporaryDirectory() if len(plan) % 10 == 9 else contextlib.nullcontext() as folder:
            tally.add(play(plan, path=pathlib.Path(folder) / "state.sqlite3" if folder else None))

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            one()
    except Exception as error:
        told = "\n".join(getattr(error, "__notes__", []))
        where = traceback.extract_tb(error.__traceback__)[-1]
        tally.failures.append(
            f"SEED={seed} COUNT={count}\n{told}\n{type(error).__name__} in {where.name}: {str(error)[:2000]}\n"
        )
    tally.seconds = time.monotonic() - started
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    sizes = [min(CHUNK, options.count - done) for done in range(0, options.count, CHUNK)]
    # Chunks have seeds of their own, so that one can be played again without those before it.
    chunks = [(size, options.seed + index) for index, size in enumerate(sizes)]
    whole, started = Tally(), time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        runs = [pool.submit(play_many, size, seed) for size, seed in chunks]
        for run in concurrent.futures.as_completed(runs):
            whole.add(run.result())
            print(
                f"\r{whole.histories} histories, {whole.events} events, {len(whole.failures)} failed, "
                f"{time.monotonic() - started:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
    print(file=sys.stderr)
    for each in whole.failures:
        print(each)
    print(f"{whole.histories} histories from SEED={options.seed}, {whole.events} events.")
    print("Done:", ", ".join(f"{name} {number}" for name, number in whole.done.most_common()))
    print("Refused most:", *(f"{number} × {why}" for why, number in whole.refused.most_common(8)), sep="\n  ")
    return 1 if whole.failures else 0


if __name__ == "__main__":
    sys.exit(main())
