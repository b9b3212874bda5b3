"""The account that PostgreSQL runs as where this was started by root, as PostgreSQL itself refuses to."""

import os
import pwd
import stat
import time
from contextlib import suppress
from pathlib import Path

from config.embedded.command import run
from config.embedded.errors import EmbeddedError

ACCOUNT = "tollgate"  # Made on the first start.


def account_for(directory: Path) -> pwd.struct_passwd | None:
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
        made = run(["useradd", "--system", "--no-create-home", "--shell", "/bin/false", ACCOUNT])
        if made.returncode:
            time.sleep(0.1)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and no account could be made for it: add one named {ACCOUNT}, "
        "run this as another user, or set DATABASE_URL."
    )


def open_way_to(directory: Path, binaries: Path) -> None:
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
