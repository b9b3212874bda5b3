"""Run all of Tollgate on this machine: `python -m config.run`, which is what `make run` does.

PostgreSQL, Redis and the Stripe sandbox first, each only where the environment names none; then the demo's
data; then the web server, worker, beat and drain. All of it stops together.
"""

import argparse
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from config import embedded
from config.runner.settings import Options, child_environment, is_set
from config.runner.supervisor import Child, Supervisor

SANDBOX_SECONDS = 30
READY_SECONDS = 60
HINT = "To see it with three months of 30 customers: make run VAR=var/demo DEMO=3"
DEMO_KEYS = ("staff_email", "staff_password", "customer_email", "customer_password", "api_key")


class RunError(Exception):
    """Tollgate cannot run, or cannot go on. The message is one sentence, ready to be shown."""


class Stopped(Exception):
    """Somebody asked for the end: Ctrl-C, SIGTERM or a closed terminal."""


class Run:
    """One `make run`, from the first port looked at to the last process gone."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.uses_sandbox = not is_set("STRIPE_SECRET_KEY", os.environ)
        self.starts_postgres = not is_set("DATABASE_URL", os.environ)
        self.starts_redis = not is_set("REDIS_URL", os.environ)
        self.environment = child_environment(options, given=os.environ)
        self.supervisor = Supervisor(record=options.var / "run.json")
        self.asked_to_stop = threading.Event()

    def up(self) -> None:
        """Start everything and say where it is. Ends only by raising Stopped, RunError or EmbeddedError."""
        began = time.monotonic()
        self._listen_for_signals()
        self._clear_leftovers()
        check_port(self.options.host, self.options.port, wanted_by="the web server", variable="PORT")
        with self._backing():
            self._prepare()
            self._start_services()
            self._wait_for(f"{self.options.origin}/readyz", name="The web server", seconds=READY_SECONDS)
            self.supervisor.say(self._welcome(time.monotonic() - began))
            while True:
                self._pause(1)
                self.check_stores()

    def manage(self, arguments: list[str], *, running: bool) -> int:
        """Run a manage.py command on the same stores, which are started for it if not `running`.

        Returns the command's exit code.
        """
        self.supervisor.output = sys.stderr  # Standard output is the command's alone.
        command = [sys.executable, "manage.py", *arguments]
        # Ctrl-C in a shell is the shell's own affair.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        if running:
            return subprocess.call(command, env=self.environment)
        self._clear_leftovers()
        with self._backing():
            return subprocess.call(command, env=self.environment)

    @contextmanager
    def _backing(self) -> Iterator[None]:
        """PostgreSQL, Redis and the sandbox, up inside the block; after it they and all children are gone."""
        if self.uses_sandbox:
            wanted_by = "the Stripe sandbox"
            check_port("127.0.0.1", self.options.sandbox_port, wanted_by=wanted_by, variable="SANDBOX_PORT")
        with ExitStack() as undo:
            stores = ThreadPoolExecutor()
            starting: list[Future[str]] = []
            if self.starts_postgres:
                undo.callback(embedded.stop_postgres, self.options.postgres_directory)
                starting.append(stores.submit(embedded.start_postgres, self.options.postgres_directory))
            if self.starts_redis:
                undo.callback(embedded.stop_redis, self.options.redis_directory)
                starting.append(stores.submit(embedded.start_redis, self.options.redis_directory))
            undo.callback(stores.shutdown)
            undo.callback(self.supervisor.stop)
            undo.callback(self.supervisor.say, "Stopping ...")
            if self.uses_sandbox:
                self._start_sandbox()
            for store in starting:
                store.result()
            if self.uses_sandbox:
                name = "The Stripe sandbox"
                self._wait_for(f"{self.options.sandbox_origin}/healthz", name=name, seconds=SANDBOX_SECONDS)
            yield

    def _clear_leftovers(self) -> None:
        if names := self.supervisor.stop_leftovers():
            self.supervisor.say(f"Stopped what an earlier run had left running: {', '.join(names)}.")

    def _start_sandbox(self) -> None:
        command = ["-m", "sandbox", "--host", "127.0.0.1", "--port", str(self.options.sandbox_port)]
        command += ["--state", str(self.options.var / "sandbox.sqlite3")]
        if is_set("SANDBOX_CHECK_CONTRACT", os.environ):
            command.append("--check-contract")
        self._start("sandbox", command)

    def _prepare(self) -> None:
        months = self.options.demo
        command = ["demo", "--months", str(months)] if months else ["prepare_demo"]
        child = self._start("prepare", ["manage.py", *command], labelled=False)
        while not self.supervisor.finished(child):
            self._pause(0.05, ending=child)
        if child.process.returncode:
            what = (
                "The demo could not be played" if months else "The database or Stripe could not be prepared"
            )
            raise RunError(f"{what}: the reason is above.")

    def _start_services(self) -> None:
        web = ["-m", "gunicorn", "config.wsgi:application", "--bind", self.options.address]
        web += [
            "--worker-class",
            "gthread",
            "--workers",
            str(self.options.workers),
            "--threads",
            "8",
            "--graceful-timeout",
            "5",
        ]
        web += ["--no-control-socket", "--access-logfile", "-"]
        web += ["--access-logformat", "%(m)s %(U)s %(s)s %(M)s ms"]
        celery = ["-m", "celery", "--quiet", "--app", "config"]
        schedule = str(self.options.var / "celerybeat-schedule")
        self._start("web", web)
        self._start("drain", ["manage.py", "drain_usage"])
        # Whoever tries Tollgate in a container is often root; the warning about it is meant for servers.
        as_root = ["-W", "ignore:You're running the worker with superuser privileges"]
        # Gossip and mingle introduce workers to each other. There is one.
        self._start("worker", [*as_root, *celery, "worker", "--loglevel", "INFO", "--concurrency", "2",
                               "--without-gossip", "--without-mingle"])  # fmt: skip
        self._start("beat", [*celery, "beat", "--loglevel", "INFO", "--schedule", schedule])

    def _start(self, name: str, arguments: list[str], *, labelled: bool = True) -> Child:
        command = [sys.executable, *arguments]
        return self.supervisor.start(name, command, environment=self.environment, labelled=labelled)

    def _wait_for(self, address: str, *, name: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not answers(address):
            if time.monotonic() > deadline:
                raise RunError(f"{name} did not answer at {address} within {seconds:.0f} seconds.")
            self._pause(0.1)

    def _pause(self, seconds: float, *, ending: Child | None = None) -> None:
        """Sleep; raise Stopped where asked to stop, RunError where a child other than `ending` has ended."""
        if self.asked_to_stop.wait(seconds):
            raise Stopped
        stopped = self.supervisor.find_stopped()
        if stopped is not None and stopped is not ending:
            code = stopped.process.returncode
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise RunError(f"{stopped.name} stopped by itself ({how}), so everything else was stopped too.")

    def check_stores(self) -> None:
        """Raise RunError where a store that this run started is gone: the rest would answer nothing but errors."""
        if self.starts_postgres and not embedded.is_postgres_up(self.options.postgres_directory):
            log = self.options.postgres_directory / "server.log"
            raise RunError(f"PostgreSQL stopped by itself, so everything else was stopped too (see {log}).")
        if self.starts_redis and not embedded.is_redis_up(self.options.redis_directory):
            log = self.options.redis_directory / "redis.log"
            raise RunError(f"Redis stopped by itself, so everything else was stopped too (see {log}).")

    def _listen_for_signals(self) -> None:
        def stop(number: int, frame: object) -> None:
            # The second Ctrl-C is impatience: do not wait for what is still finishing.
            if self.asked_to_stop.is_set():
                self.supervisor.hurried.set()
            self.asked_to_stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)

    def _welcome(self, seconds: float) -> str:
        path = self.options.var / "demo.json"
        try:
            demo = json.loads(path.read_text())
            staff, staff_password, customer, customer_password, key = (demo[name] for name in DEMO_KEYS)
            played = demo.get("played")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} does not name the demo's logins: remove it and try again.") from error
        origin = self.options.origin
        sandbox = f"{self.options.sandbox_origin}/   a sandbox, no money moves"
        stripe = sandbox if self.uses_sandbox else "the account that STRIPE_SECRET_KEY belongs to"
        return "\n".join([
            "",
            f"Tollgate is up, {seconds:.1f} seconds after the start.",
            "",
            f"  Site         {origin}/",
            f"  Back office  {origin}/admin/",
            f"  API docs     {origin}/api/docs/",
            f"  Stripe       {stripe}",
            f"  Mail         {self.options.var / 'mail'}",
            "",
            f"  Customer     {customer}   {customer_password}",
            f"  Staff        {staff}   {staff_password}",
            *([f"  Played       {played['login']}   {customer_password}   (all {played['organizations']} have it)"]
              if played else []),
            "",
            f'  curl -H "Authorization: Bearer {key}" {origin}/api/v1/echo',
            "",
            *([] if played or not self.uses_sandbox else [HINT, ""]),
            "Ctrl-C stops all of it; the data stays.",
            "",
        ])  # fmt: skip


def check_port(host: str, port: int, *, wanted_by: str, variable: str) -> None:
    """Raise RunError where nothing could listen on a port."""
    if not 1 <= port <= 65_535:
        raise RunError(f"{variable}={port} is no port: choose one from 1 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # What a server sets too: a connection of the last run that still lingers is no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except socket.gaierror as error:
            raise RunError(f"HOST={host} is no address of this machine.") from error
        except OSError as error:
            raise RunError(
                f"Port {port} on {host}, which {wanted_by} wants, is not free ({error.strerror}): "
                f"stop what uses it, or choose another with `make run {variable}={port + 1}`."
            ) from error


def answers(address: str) -> bool:
    """Tell whether a GET of an http address is answered with 200."""
    host, _, path = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def only_run(var: Path) -> Iterator[bool]:
    """Hold `var` against a second run inside the block; give False where another one holds it."""
    with (var / "run.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def months(text: str) -> int:
    """Return a number of months, 0 for an empty text, which is what `make run` passes on without DEMO."""
    if text and not (text.isdecimal() and 1 <= int(text) <= 12):
        raise argparse.ArgumentTypeError(f"DEMO={text} is no number of months from 1 to 12.")
    return int(text or 0)


def parse(arguments: list[str]) -> tuple[Options, list[str] | None]:
    """Return the options, and the arguments for manage.py where `--manage` asks for that."""
    parser = argparse.ArgumentParser(prog="python -m config.run", description=__doc__)
    parser.add_argument("--var", type=Path, default=Path("var"), help="where data, logs and mail are kept")
    parser.add_argument("--host", default=Options.host)
    parser.add_argument("--port", type=int, default=Options.port)
    parser.add_argument("--sandbox-port", type=int, default=Options.sandbox_port)
    parser.add_argument("--workers", type=int, default=Options.workers, help="web processes")
    parser.add_argument("--demo", type=months, default=0, help="play so many months of customers' life first")
    parser.add_argument("--manage", nargs=argparse.REMAINDER, help="run this manage.py command instead")
    found = parser.parse_args(arguments)
    options = Options(
        var=found.var.resolve(),
        host=found.host,
        port=found.port,
        sandbox_port=found.sandbox_port,
        workers=found.workers,
        demo=found.demo,
    )
    return options, found.manage


def main(arguments: list[str]) -> int:
    """Return the exit code: 0 also after Ctrl-C, which is how a run is meant to end."""
    options, command = parse(arguments)
    try:
        options.var.mkdir(parents=True, exist_ok=True)
        with only_run(options.var) as alone:
            run = Run(options)
            if command is not None:
                return run.manage(command, running=not alone)
            if not alone:
                raise RunError(f"Tollgate is already running on {options.var}: stop that one first.")
            run.up()
    except Stopped:
        return 0
    except (RunError, embedded.EmbeddedError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{error.filename or options.var} cannot be used: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
