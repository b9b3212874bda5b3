"""Web servers started as production starts them, and the client that calls them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.stores import free_port
from config.run import answers

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60


class ServerError(Exception):
    """A web server did not start. The message says where its log is."""


@dataclass
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def workers(self) -> list[psutil.Process]:
        """Return the processes that serve: the children, or the server itself where it has none."""
        main = psutil.Process(self.process.pid)
        return [
            child for child in main.children() if "resource_tracker" not in " ".join(child.cmdline())
        ] or [main]

    def is_up(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/bench/plain")

    def wait_until_up(self) -> None:
        """Raises ServerError."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerError(f"{self.name} did not start: {' '.join(last)} (see {self.log})")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to stop, and see to it that nothing of it is left."""
        if self.process.poll() is not None:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in family:
            if child.is_running():
                child.kill()


def production_command(procfile: Path = ROOT / "Procfile") -> str:
    """Return the web process of the Procfile, listening on 127.0.0.1 alone."""
    found = re.search(r"^web:\s*(.+)$", procfile.read_text(), re.MULTILINE)
    if not found:
        raise ServerError("The Procfile has no web process.")
    return found[1].replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - taken away.


@contextmanager
def serving(
    name: str, command: str, environment: Mapping[str, str], *, workers: int, threads: int = 8
) -> Iterator[Server]:
    """Run a server inside the block. `command` is a shell's, with PORT, WEB_CONCURRENCY and WEB_THREADS in it."""
    port = free_port()
    log = Path(environment["VAR_DIR"]) / f"{name.replace(' ', '-')}-{port}.log"
    variables = {
        **os.environ,
        **environment,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "WEB_THREADS": str(threads),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, port, process, log)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


def request(path: str, headers: Mapping[str, str], *, method: str = "GET", body: str = "") -> str:
    """Return a request as it goes over the wire."""
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "User-Agent: bench/1",
        "Accept: application/json",
    ]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body])


def call(job: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Let the client do a job in a process of its own; see bench/client.py for what is in one."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.client"],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=json.dumps(job),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
