import pwd
import shlex
import shutil
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from config.embedded.account import account_for, open_way_to
from config.embedded.binaries import find_postgres
from config.embedded.command import run
from config.embedded.directory import exclusively, is_listening, private_directory, socket_directory
from config.embedded.errors import EmbeddedError, as_sentences, last_line

DATABASE = "tollgate"
SUPERUSER = "postgres"
PORT = 5432
START_SECONDS = 60
STOP_SECONDS = 30


def postgres_url(directory: Path) -> str:
    """Return the DATABASE_URL of the PostgreSQL kept in `directory`, whether it is running or not."""
    return _url(directory, database=DATABASE)


def start_postgres(directory: Path, *, durable: bool = True) -> str:
    """Start PostgreSQL on `directory`, filling it where it is new, and return its DATABASE_URL.

    One already running there is used as it is. `durable=False` gives up crash safety for speed.
    Raises EmbeddedError.
    """
    directory = directory.resolve()
    binaries = find_postgres()
    deadline = time.monotonic() + STOP_SECONDS
    with exclusively(directory), as_sentences("PostgreSQL", directory):
        while is_listening(_socket(directory)):
            # One that was just killed or told to stop still takes connections for a moment.
            try:
                _ensure_database(directory)
            except EmbeddedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return postgres_url(directory)
        account = account_for(directory)
        if account is not None:
            open_way_to(directory, binaries)
        if not (directory / "PG_VERSION").exists():
            _create_cluster(directory, binaries=binaries, account=account, durable=durable)
        private_directory(socket_directory(directory), account)
        _start_postmaster(directory, binaries=binaries, account=account, durable=durable)
        _ensure_database(directory)
    return postgres_url(directory)


def is_postgres_up(directory: Path) -> bool:
    """Tell whether a PostgreSQL listens on `directory`."""
    return is_listening(_socket(directory.resolve()))


def stop_postgres(directory: Path) -> None:
    """Stop the PostgreSQL kept in `directory`, if one runs, and wait for its end. Raises EmbeddedError."""
    directory = directory.resolve()
    if not (directory / "postmaster.pid").exists():
        return
    binaries = find_postgres()
    with exclusively(directory), as_sentences("PostgreSQL", directory):
        # Fast rolls back what is open and checkpoints; immediate leaves that to the next start.
        for mode in ("fast", "immediate"):
            run(
                [binaries / "pg_ctl", "-D", directory, "-m", mode, "-w", "-t", str(STOP_SECONDS), "stop"],
                account=account_for(directory),
            )
            if not is_listening(_socket(directory)):
                return
    raise EmbeddedError(f"PostgreSQL in {directory} does not stop: see {directory / 'server.log'}.")


def _url(directory: Path, *, database: str) -> str:
    # The socket's directory goes into the query: in the host's place dj-database-url makes it lower-case.
    # The port is part of the socket's name; unsaid, it would come from PGPORT.
    place = quote(str(socket_directory(directory.resolve())))
    return f"postgresql://{SUPERUSER}:@:{PORT}/{database}?host={place}"


def _socket(directory: Path) -> Path:
    return socket_directory(directory) / f".s.PGSQL.{PORT}"


def _create_cluster(
    directory: Path, *, binaries: Path, account: pwd.struct_passwd | None, durable: bool
) -> None:
    # Beside its place and then moved there, so that one that was cut short is never taken for a whole one.
    fresh = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    private_directory(fresh, account)
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
    done = run(command if durable else [*command, "--no-sync"], account=account)
    if done.returncode:
        raise EmbeddedError(f"PostgreSQL could not fill {directory}: {last_line(done.stderr)}.")
    with suppress(FileNotFoundError):
        directory.rmdir()
    fresh.rename(directory)


def _start_postmaster(
    directory: Path, *, binaries: Path, account: pwd.struct_passwd | None, durable: bool
) -> None:
    options = ["-k", str(socket_directory(directory)), "-h", "", "-p", str(PORT)]
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
        done = run(command, account=account)
        if done.returncode == 0:
            return
        said = log.read_bytes()[known:].decode(errors="replace") if log.exists() else done.stderr
        reason = last_line("\n".join(line for line in said.splitlines() if "FATAL" in line) or said)
        # A postmaster that was killed takes a moment to die, its children another.
        passing = "still in use" in reason or "lock file" in reason
        if not passing or time.monotonic() > deadline:
            raise EmbeddedError(f"PostgreSQL did not start: {reason} (see {log}).")
        time.sleep(0.2)


def _forget_dead_postmaster(directory: Path) -> None:
    """Remove the lock files whose number is a dead process's, or some other program's by now.

    PostgreSQL takes any process of that number for a living postmaster, and would not start.
    """
    socket_path = _socket(directory)
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

    address = _url(directory, database="postgres")
    try:
        with psycopg.connect(address, autocommit=True, connect_timeout=START_SECONDS) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount == 0:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.Error as error:
        raise EmbeddedError(f"PostgreSQL in {directory} does not answer: {last_line(str(error))}.") from error
