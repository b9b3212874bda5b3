"""The directory that a store lives in, and the socket it is reached by."""

import fcntl
import hashlib
import os
import pwd
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.embedded.errors import EmbeddedError

# The kernel allows a socket's path 107 bytes on Linux and 103 on macOS.
LONGEST_SOCKET_PATH = 100
LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


def socket_directory(directory: Path) -> Path:
    """Return `directory`, or a short stand-in for it where the path of a socket in it would be too long."""
    if len(os.fsencode(directory / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
        return directory
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    # Not TMPDIR: every process must come to the same path. `private_directory` refuses a stranger's.
    return Path("/tmp") / f"tollgate-{name}"  # noqa: S108


def private_directory(path: Path, account: pwd.struct_passwd | None = None) -> None:
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
def exclusively(directory: Path) -> Iterator[None]:
    """Keep other processes out of starting or stopping what is in `directory`."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = (directory.parent / f".{directory.name}.lock").open("w")
    except OSError as error:
        raise EmbeddedError(f"{directory.parent} cannot be written to: {error.strerror}.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
