"""The whole product as `make run` starts it, for tests that talk to real processes over HTTP."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from typing import Any, TypeVar

import psycopg

from config import embedded

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 240
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    url: str, *, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Send a request and return the answer, whatever its status."""
    message = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(message, timeout=30) as response:  # noqa: S310
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], T], *, seconds: float, what: str) -> T:
    """Look again and again until there is something to see. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} seconds.")
        time.sleep(0.2)
    return seen


class Stack:
    """One `python -m config.run` with a var directory and ports of its own."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self.origin = f"http://127.0.0.1:{free_port()}"
        self.sandbox = f"http://127.0.0.1:{free_port()}"
        self.log = var.with_suffix(".log")

    def start(self) -> None:
        shutil.rmtree(self.var, ignore_errors=True)
        self.var.parent.mkdir(parents=True, exist_ok=True)
        hidden = {
            "DATABASE_URL",
            "REDIS_URL",
            "STRIPE_SECRET_KEY",
            "STRIPE_API_BASE",
            "API_BASE_URL",
            "VAR_DIR",
            "DEBUG",
        }
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        command = [sys.executable, "-m", "config.run", "--var", str(self.var)]
        command += [
            "--port",
            self.origin.rpartition(":")[2],
            "--sandbox-port",
            self.sandbox.rpartition(":")[2],
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment | {"SANDBOX_CHECK_CONTRACT": "1"}, stdout=log, stderr=log
            )
        wait_for(self.is_up, seconds=UP_SECONDS, what="Tollgate is up")

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        return "Tollgate is up" in self.log.read_text()

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        shutil.rmtree(self.var, ignore_errors=True)
        return code

    def api(self, path: str, key: str | None = None) -> Answer:
        return request(self.origin + path, headers={} if key is None else {"Authorization": f"Bearer {key}"})

    def stripe(self, path: str, *, method: str = "GET", body: bytes | None = None) -> Any:
        """Ask the sandbox as Stripe's API, with a key of a test's own."""
        answer = request(
            self.sandbox + path,
            method=method,
            body=body,
            headers={"Authorization": "Bearer sk_test_ofTheFlowTest00000000000"},
        )
        assert answer.status == 200, answer.body
        return answer.json()

    def contract_problems(self) -> list[Any]:
        content = request(f"{self.sandbox}/sandbox/contract").json()
        assert content["checked"] > 0
        problems: list[Any] = content["problems"]
        return problems

    def row(self, sql: str, *parameters: object) -> Any:
        """Return the first row of a query on Tollgate's database."""
        with psycopg.connect(embedded.postgres_url(self.var / "postgres")) as connection:
            return connection.execute(sql, parameters).fetchone()  # type: ignore[arg-type]

    def find_mail(self, recipient: str) -> str | None:
        """Return the text of the latest e-mail to somebody, from where `make run` keeps them."""
        for path in sorted(
            (self.var / "mail").glob("*"), key=lambda path: path.stat().st_mtime, reverse=True
        ):
            message = message_from_string(path.read_text())
            if message["To"] == recipient:
                return str(message.get_payload(decode=True), "utf-8")
        return None
