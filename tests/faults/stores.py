"""A lane's PostgreSQL and Redis: children of this process, which can be killed in the ways that real ones die."""

import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import redis

from config import embedded
from config.embedded.account import account_for
from config.embedded.binaries import find_postgres, find_redis
from config.embedded.directory import private_directory, socket_directory
from tests.faults.dying import die_with_parent

START_SECONDS = 20


class Postgres:
    """Killed without a word it loses nothing that was committed. Only the machine may not crash: nothing is synced."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.url = embedded.postgres_url(self.directory)
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        embedded.start_postgres(self.directory, durable=False)
        embedded.stop_postgres(self.directory)
        self.start()

    def start(self) -> None:
        settings = {
            "max_connections": "100",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "on",
            "shared_buffers": "64MB",
            "autovacuum_naptime": "20s",
        }
        command = [str(find_postgres() / "postgres"), "-D", str(self.directory)]
        command += ["-k", str(socket_directory(self.directory)), "-h", "", "-p", "5432"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        account: pwd.struct_passwd | None = account_for(self.directory)
        private_directory(socket_directory(self.directory), account)
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                # After the change of account, which would undo it.
                preexec_fn=lambda: die_with_parent(signal.SIGQUIT),  # noqa: PLW1509  # No threads in the child.
            )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.Error as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL does not come up: {error}") from error
                time.sleep(0.01)
            else:
                return

    def stop(self, *, immediately: bool) -> None:
        """Immediately: as in a crash, to be replayed at the next start. Else what is open is rolled back first."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
        self.process.wait(timeout=START_SECONDS)
        self.process = None


class Redis:
    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.url = embedded.redis_url(self.directory)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)

    def start(self) -> None:
        private_directory(self.directory)
        private_directory(socket_directory(self.directory))
        self.data.mkdir(exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(socket_directory(self.directory) / "redis.sock"),
            "dir": str(self.data),
            "logfile": str(self.directory / "redis.log"),
            "save": "",
            "appendonly": "yes",
            # Written at once, and so kept when the process is killed. With everysec a write waits for an fsync that is
            # under way, while its answer does not: what docs/operating.md says may be lost then is not played here.
            "appendfsync": "no",
            "auto-aof-rewrite-percentage": "0",
            "maxmemory-policy": "noeviction",
        }
        command = [find_redis()]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # No threads in the child.
        )
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                client = self.client()
                client.ping()
                client.close()
            except redis.exceptions.RedisError as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Redis does not come up: {error}") from error
                time.sleep(0.005)
            else:
                return

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self) -> Path:
        return self.data / "appendonly.aof"

    def cut(self, size: int) -> None:
        """Lose the end of what is on disk, as a crash of the machine does: the next start begins with what is left."""
        with self.log.open("r+b") as file:
            file.truncate(size)

    def forget(self) -> None:
        """Lose what is on disk: the next start begins with nothing."""
        shutil.rmtree(self.data)
