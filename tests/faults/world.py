"""The world of a lane: stores, Stripe, the clock and the product's processes, used for one schedule after the other."""

import os
import secrets
import shutil
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from config.embedded.directory import socket_directory
from tests.faults.dying import is_alive
from tests.faults.stores import Postgres, Redis
from tests.faults.stripe_side import StripeSide

if TYPE_CHECKING:
    from tests.faults.shared_clock import SharedClock
    from tests.faults.zygote import Zygote

DYING_SECONDS = 5


@dataclass
class Running:
    """A process of the product: what it was started as, and its id now."""

    role: str
    arguments: dict[str, Any]
    process_id: int = 0


@dataclass
class World:
    directory: Path
    postgres: Postgres = field(init=False)
    redis: Redis = field(init=False)
    stripe: StripeSide = field(init=False)
    clock: "SharedClock" = field(init=False)
    zygote: "Zygote" = field(init=False)
    processes: dict[str, Running] = field(default_factory=dict)

    def begin(self) -> None:
        """Start everything, publish the plans, and leave the product running. Only in a process without threads."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.postgres, self.redis = Postgres(self.directory / "postgres"), Redis(self.directory / "redis")
        self.place, self.web_port = hold_port()
        stripe_port = free_port()
        key = f"sk_test_{secrets.token_hex(16)}"
        self.stripe = StripeSide(stripe_port, key=key)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "DEBUG": "0",
            "SECRET_KEY": secrets.token_hex(32),
            "ALLOWED_HOSTS": "127.0.0.1",
            "API_BASE_URL": f"http://127.0.0.1:{self.web_port}",
            "FRONTEND_URL": f"http://127.0.0.1:{self.web_port}",
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "STRIPE_SECRET_KEY": key,
            "STRIPE_API_BASE": f"http://127.0.0.1:{stripe_port}",
            "DEFAULT_FROM_EMAIL": "tollgate@localhost",
            "EMAIL_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "VAR_DIR": str(self.directory),
        }
        for name in OTHERS:
            os.environ.pop(name, None)
        self.stripe.start(self.log("sandbox"))
        self.postgres.create()
        self.redis.start()
        self._fork_zygote()
        from tests.faults import founding  # noqa: PLC0415  # Django's models, which want settings.

        founding.found()
        for role in ("web", "drain", "worker", "beat"):
            self.start(role)

    def _fork_zygote(self) -> None:
        import django  # noqa: PLC0415  # As above.

        django.setup()
        from django.conf import settings  # noqa: PLC0415
        from django.db import connections  # noqa: PLC0415

        settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
        from tests.faults.roles import warm_up  # noqa: PLC0415
        from tests.faults.shared_clock import SharedClock, keep_time  # noqa: PLC0415
        from tests.faults.zygote import Zygote  # noqa: PLC0415

        warm_up()
        # Nobody may share a connection with a fork.
        connections.close_all()
        self.clock = SharedClock(self.clock_file)
        self.zygote = Zygote()
        keep_time(self.clock)

    @property
    def clock_file(self) -> Path:
        return self.directory / "clock"

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def logs(self) -> list[Path]:
        postgres, redis = self.postgres.directory / "server.log", self.redis.directory / "redis.log"
        return [*sorted(self.directory.glob("*.log")), postgres, redis]

    # The product's processes, by role: web, drain, drain-2, worker, beat.

    def start(self, name: str) -> None:
        """Start a process, unless it runs."""
        if self.runs(name):
            return
        role = name.partition("-")[0]
        arguments: dict[str, Any] = {"clock": str(self.clock_file)}
        if role == "web":
            arguments["port"] = self.web_port
        elif role == "worker":
            arguments["name"] = f"{name}-{secrets.token_hex(3)}"
        elif role == "beat":
            arguments["schedule"] = str(self.directory / "celerybeat-schedule")
        process_id = self.zygote.spawn(role, self.log(name), **arguments)
        self.processes[name] = Running(role, arguments, process_id)

    def runs(self, name: str) -> bool:
        return name in self.processes and is_alive(self.processes[name].process_id)

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL, and wait until it is gone; a web server's workers go with it."""
        if not self.runs(name):
            return
        process_id = self.processes[name].process_id
        with suppress(ProcessLookupError):
            os.kill(process_id, signal.SIGKILL)
        deadline = time.monotonic() + DYING_SECONDS
        while is_alive(process_id) and time.monotonic() < deadline:
            time.sleep(0.002)

    def retire(self, name: str) -> None:
        """Stop a process in an orderly way, for good."""
        if self.runs(name):
            process_id = self.processes[name].process_id
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGTERM)
            deadline = time.monotonic() + DYING_SECONDS
            while is_alive(process_id) and time.monotonic() < deadline:
                time.sleep(0.005)
            self.kill(name)
        self.processes.pop(name, None)

    def kill_web_worker(self, chance: float) -> None:
        """Kill one of the web server's workers, which its master starts anew."""
        with suppress(psutil.NoSuchProcess):
            workers = psutil.Process(self.processes["web"].process_id).children()
            if workers:
                workers[int(chance * len(workers))].kill()

    def hear_webhooks(self, *, seconds: float) -> int:
        """Wait until Stripe has told its news; return how many are left. Sent again where Stripe would wait longer."""
        deadline, asked = time.monotonic() + seconds, set[tuple[str, int]]()
        while rows := self.stripe.undelivered():
            if time.monotonic() > deadline:
                return len(rows)
            for row in rows:
                if row["attempts"] >= 2 and (row["event"], row["attempts"]) not in asked:
                    asked.add((row["event"], row["attempts"]))
                    with suppress(AssertionError):
                        self.stripe.resend(row["event"])
            time.sleep(0.05)
        return 0

    def tell(self) -> None:
        """Have every process of the product write to its log what it is doing."""
        from tests.faults.zygote import TELL  # noqa: PLC0415  # Which imports what wants settings.

        for running in self.processes.values():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(running.process_id)
                for each in [process, *process.children()]:
                    each.send_signal(TELL)
        time.sleep(0.1)

    def now(self) -> datetime:
        return self.clock.now()

    def move_to(self, moment: datetime) -> None:
        """Let it be `moment` or a second later everywhere: at Stripe first, as the product must not be ahead of it."""
        offset = self.clock.offset + max(0, int((moment - self.now()) / timedelta(seconds=1)) + 1)
        if offset == self.clock.offset:
            return
        self.stripe.control("POST", "/sandbox/clock", {"advance": offset - self.clock.offset})
        self.clock.set_offset(offset)

    def end(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        with suppress(AttributeError):
            self.zygote.close()
        with suppress(AttributeError):
            self.stripe.stop()
        with suppress(AttributeError):
            self.redis.kill()
            self.postgres.stop(immediately=True)
        for store in (self.directory / "postgres", self.directory / "redis"):
            if socket_directory(store.resolve()) != store.resolve():
                shutil.rmtree(socket_directory(store.resolve()), ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)


OTHERS = (
    "STRIPE_PUBLISHABLE_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_CHECK_RESTRICTED_KEY",
    "API_SCOPES",
    "TRUSTED_PROXIES",
    "CELERY_BROKER_URL",
    "CACHE_URL",
    "GATE_WITHOUT_REDIS",
    "SECURE_SSL_REDIRECT",
    "EMAIL_PORT",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hold_port() -> tuple[socket.socket, int]:
    """Return a free port, and the socket that keeps it: it does not listen, so calls to it are refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held, int(held.getsockname()[1])
