"""Play schedules, several lanes at once: `python -m tests.faults.play --count 500 --seed 1 --lanes 2 --report FILE`."""

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from tests.faults import report
from tests.faults.dying import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
VAR = ROOT / "var" / "faults"
LONGEST_SECONDS = 120.0

Result = dict[str, Any]


class LaneProcess:
    """One lane, started anew where it dies or hangs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.lane", str(self.directory), str(VAR)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # Nothing is locked in the child.
        )

    def play(self, seed: int) -> Result:
        assert self.process is not None
        assert self.process.stdin is not None
        alarm = threading.Timer(LONGEST_SECONDS, self.process.kill)
        alarm.start()
        try:
            self.process.stdin.write(f"{seed}\n")
            self.process.stdin.flush()
            line = self.read()
        except OSError:
            line = ""
        finally:
            alarm.cancel()
        if line:
            found: Result = json.loads(line)
            return found
        log = Path(f"{self.directory}.log")
        said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        wrong = f"The lane died or took more than {LONGEST_SECONDS:.0f} s: {said}"
        return {"seed": seed, "wrong": [wrong], "counts": {}, "acts": [], "seconds": LONGEST_SECONDS}

    def read(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) == "ready\n":
            continue
        return line

    def stop(self) -> None:
        if self.process is None:
            return
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def play(seeds: Iterable[int], *, lanes: int, tell: Callable[[Result], None] | None = None) -> list[Result]:
    """Play the schedules of `seeds` and return a line of the report for each, in any order.

    To be called by a thread that lives as long as this takes: the lanes go with it.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    results: list[Result] = []
    clear_up_after_the_killed()
    run = VAR / f"run-{os.getpid()}"
    processes = [LaneProcess(run / f"lane-{number}") for number in range(lanes)]
    broken: queue.SimpleQueue[LaneProcess | None] = queue.SimpleQueue()
    mended = {id(lane): threading.Event() for lane in processes}

    def work(lane: LaneProcess) -> None:
        try:
            while True:
                try:
                    seed = waiting.get_nowait()
                except queue.Empty:
                    return
                result = lane.play(seed)
                results.append(result)
                if tell:
                    tell(result)
                if lane.process is None or lane.process.poll() is not None or not result["counts"]:
                    mended[id(lane)].clear()
                    broken.put(lane)
                    mended[id(lane)].wait()
        finally:
            broken.put(None)

    run.mkdir(parents=True, exist_ok=True)
    try:
        for lane in processes:
            lane.start()
        threads = [threading.Thread(target=work, args=(lane,)) for lane in processes]
        for thread in threads:
            thread.start()
        done = 0
        # Lanes are started by this thread alone: the kernel ends them with the thread that did.
        while done < lanes:
            lane = broken.get()
            if lane is None:
                done += 1
            else:
                lane.stop()
                lane.start()
                mended[id(lane)].set()
        for thread in threads:
            thread.join()
    finally:
        for lane in processes:
            lane.stop()
        shutil.rmtree(run, ignore_errors=True)
    return results


def clear_up_after_the_killed() -> None:
    for directory in VAR.glob("run-*"):
        if not psutil.pid_exists(int(directory.name.removeprefix("run-"))):
            shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the others follow it")
    parser.add_argument("--lanes", type=int, default=2, help="worlds at once")
    parser.add_argument("--report", type=Path, default=VAR / "report.md")
    options = parser.parse_args()
    options.report.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results: list[Result] = []

    def tell(result: Result) -> None:
        results.append(result)
        # Each time anew: a run that is stopped leaves what it came to.
        written = report.write(results, seconds=time.monotonic() - started, lanes=options.lanes)
        options.report.write_text(written)
        wrong = sum(bool(each["wrong"]) for each in results)
        if result["wrong"]:
            print(f"\n{report.told(result)}\n", flush=True)
        elapsed = time.monotonic() - started
        print(
            f"{len(results)} of {options.count}, {wrong} wrong, {elapsed:.0f} s; "
            f"seed {result['seed']} took {result['seconds']} s {result.get('spans', '')}",
            flush=True,
        )

    play(range(options.seed, options.seed + options.count), lanes=options.lanes, tell=tell)
    print("\n".join(options.report.read_text().splitlines()[2:7]))
    print(f"The report is {options.report}.")
    return 1 if any(result["wrong"] for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
