import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from config.embedded.binaries import find_redis
from config.embedded.directory import exclusively, is_listening, private_directory, socket_directory
from config.embedded.errors import EmbeddedError, as_sentences, last_line

START_SECONDS = 60
STOP_SECONDS = 30

_children: dict[Path, subprocess.Popen[bytes]] = {}


def redis_url(directory: Path) -> str:
    """Return the REDIS_URL of the Redis kept in `directory`, whether it is running or not."""
    return f"unix://{quote(str(_socket(directory.resolve())))}"


def start_redis(directory: Path, *, durable: bool = True) -> str:
    """Start Redis on `directory` and return its REDIS_URL, as redis-py takes it.

    One already running there is used as it is. `durable=False` keeps nothing on disk. Raises EmbeddedError.
    """
    directory = directory.resolve()
    with exclusively(directory), as_sentences("Redis", directory):
        private_directory(directory)
        path = _socket(directory)
        # Any answer will do: while it loads its file it answers with an error.
        if not _ask(path, "PING"):
            private_directory(path.parent)
            _spawn(directory, durable=durable)
        _wait_until_ready(directory)
    return redis_url(directory)


def is_redis_up(directory: Path) -> bool:
    """Tell whether a Redis listens on `directory`."""
    return is_listening(_socket(directory.resolve()))


def stop_redis(directory: Path) -> None:
    """Stop the Redis kept in `directory`, if one runs, and wait for its end. Raises EmbeddedError."""
    directory = directory.resolve()
    path = _socket(directory)
    if not is_listening(path):
        return
    with exclusively(directory), as_sentences("Redis", directory):
        process_id = _process_id(directory)
        _ask(path, "SHUTDOWN")
        deadline = time.monotonic() + STOP_SECONDS
        while is_listening(path) or (process_id and _alive(process_id, _children.get(directory))):
            if time.monotonic() > deadline:
                if not process_id:
                    raise EmbeddedError(f"Redis in {directory} does not stop: see {directory / 'redis.log'}.")
                os.kill(process_id, signal.SIGKILL)
                break
            time.sleep(0.02)
        if child := _children.pop(directory, None):
            child.wait()


def _socket(directory: Path) -> Path:
    return socket_directory(directory) / "redis.sock"


def _spawn(directory: Path, *, durable: bool) -> None:
    settings = {
        "port": "0",
        "unixsocket": str(_socket(directory)),
        "unixsocketperm": "700",
        "dir": str(directory),
        "pidfile": str(directory / "redis.pid"),
        "logfile": str(directory / "redis.log"),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    command = [find_redis()]
    for name, value in settings.items():
        command += [f"--{name}", value]
    _children[directory] = subprocess.Popen(  # noqa: S603 - the words come from this module alone.
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_until_ready(directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    child = _children.get(directory)
    # Redis refuses commands while it loads its file.
    while not _ask(_socket(directory), "PING").startswith(b"+PONG"):
        if (child and child.poll() is not None) or time.monotonic() > deadline:
            log = directory / "redis.log"
            line = last_line(log.read_text(errors="replace")) if log.exists() else "it wrote no log"
            raise EmbeddedError(f"Redis did not start: {line} (see {log}).")
        time.sleep(0.01)


def _ask(path: Path, command: str) -> bytes:
    """Return the raw answer to a command without arguments, or nothing where none comes."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096)
    except OSError:
        return b""


def _process_id(directory: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int((directory / "redis.pid").read_text())
    return None


def _alive(process_id: int, child: subprocess.Popen[bytes] | None) -> bool:
    if child is not None:
        return child.poll() is None  # Asking also reaps it.
    import psutil  # noqa: PLC0415 - needed only for a Redis that an earlier process started.

    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
