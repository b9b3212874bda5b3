"""Run several commands side by side and stop them together.

honcho would be the ready-made part, but it wraps each command in one more Python process, which ignores
SIGTERM and stays behind when honcho is killed; a signal that arrives while it starts its commands ends it by
KeyError; and it gives up after five seconds, less than the drain may need to write what it holds.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import IO, TextIO

import psutil

STOP_SECONDS = 8.0
COLOURS = (36, 33, 32, 35, 34, 31)
NAME_WIDTH = 8


@dataclass(frozen=True)
class Child:
    name: str
    process: subprocess.Popen[bytes]


class Supervisor:
    """Commands that live and die together, each in a process group of its own.

    `record` is a file that says which processes run: the next supervisor stops what a killed one left.
    """

    def __init__(self, *, record: Path, output: TextIO | None = None) -> None:
        self.record = record
        self.output = output or sys.stdout
        self.children: list[Child] = []
        self.hurried = threading.Event()
        self._colours = cycle(COLOURS)
        self._printing = threading.Lock()

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], labelled: bool = True
    ) -> Child:
        """Start a command. Its output appears line by line behind its name; as it is if not `labelled`."""
        # Its own session: Ctrl-C must reach this process alone, which then stops all in good order.
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if labelled else None,
            stderr=subprocess.STDOUT if labelled else None,
            start_new_session=True,
        )
        if process.stdout is not None:
            arguments = (self._label(name), process.stdout)
            threading.Thread(target=self._print_lines, args=arguments, daemon=True).start()
        child = Child(name, process)
        self.children.append(child)
        self._write_record()
        return child

    def finished(self, child: Child) -> bool:
        """Tell whether a command that is meant to end has ended; it then no longer counts as a child."""
        if child.process.poll() is None:
            return False
        self.children.remove(child)
        self._write_record()
        return True

    def find_stopped(self) -> Child | None:
        """Return a child that ended by itself."""
        return next((child for child in self.children if child.process.poll() is not None), None)

    def stop(self) -> None:
        """Ask every child to stop, wait, kill what is left after STOP_SECONDS or once `hurried` is set."""
        for child in self.children:
            # The leader alone: gunicorn and Celery tell their own workers, in the right order.
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        while any(child.process.poll() is None for child in self.children):
            if time.monotonic() > deadline or self.hurried.is_set():
                break
            time.sleep(0.02)
        for child in self.children:
            _kill_group(child.process.pid)
            child.process.wait()
        self.children.clear()
        self.record.unlink(missing_ok=True)

    def stop_leftovers(self) -> list[str]:
        """Stop what a supervisor that was killed left running; return the names of it."""
        try:
            entries = json.loads(self.record.read_text())
        except (FileNotFoundError, ValueError):
            return []
        left: dict[psutil.Process, str] = {}
        for entry in entries:
            with suppress(psutil.Error):
                process = psutil.Process(entry["pid"])
                # The same number at another time is another program.
                if abs(process.create_time() - entry["created"]) < 0.1:
                    left[process] = entry["name"]
                    process.terminate()
        psutil.wait_procs(list(left), timeout=STOP_SECONDS)
        for process in left:
            _kill_group(process.pid)
        self.record.unlink(missing_ok=True)
        return list(left.values())

    def _write_record(self) -> None:
        entries = []
        for child in self.children:
            with suppress(psutil.Error):
                created = psutil.Process(child.process.pid).create_time()
                entries.append({"name": child.name, "pid": child.process.pid, "created": created})
        self.record.write_text(json.dumps(entries))

    def _label(self, name: str) -> str:
        label = name.ljust(NAME_WIDTH) + " | "
        if self.output.isatty() and "NO_COLOR" not in os.environ:
            label = f"\x1b[{next(self._colours)}m{label}\x1b[0m"
        return label

    def _print_lines(self, label: str, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                self.say(label + line.decode(errors="replace").rstrip())

    def say(self, text: str) -> None:
        """Print whole lines, never in the middle of another thread's."""
        # A closed terminal or pipe must not keep the children's output from being read, or they would block.
        with self._printing, suppress(OSError, ValueError):
            print(text, file=self.output, flush=True)


def _kill_group(process_id: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_id, signal.SIGKILL)
