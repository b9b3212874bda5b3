"""What `make run` was asked for, and the environment it gives to every process it starts."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from config import embedded

WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to.


@dataclass(frozen=True)
class Options:
    """`demo` is how many months of customers' life to play before serving."""

    var: Path
    host: str = "127.0.0.1"
    port: int = 8000
    sandbox_port: int = 12111
    workers: int = 1
    demo: int = 0

    @property
    def origin(self) -> str:
        """The address at which this machine reaches the site."""
        return f"http://{_address('127.0.0.1' if self.host in WILDCARDS else self.host, self.port)}"

    @property
    def address(self) -> str:
        """What the web server listens on."""
        return _address(self.host, self.port)

    @property
    def sandbox_origin(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def postgres_directory(self) -> Path:
        return self.var / "postgres"

    @property
    def redis_directory(self) -> Path:
        return self.var / "redis"


def is_set(name: str, given: Mapping[str, str]) -> bool:
    """Tell whether a variable has a value. Empty counts as unset, as it does in the settings."""
    return bool(given.get(name, "").strip())


def child_environment(options: Options, *, given: Mapping[str, str]) -> dict[str, str]:
    """Return `given` with every variable filled in that it leaves unset and Tollgate needs.

    The stores' addresses are those they have once started.
    """
    secret = _secret_key(options.var)
    hosts = "*" if options.host in WILDCARDS else f"127.0.0.1,localhost,[::1],{options.host}"
    values = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DEBUG": "1",
        "SECRET_KEY": secret,
        "ALLOWED_HOSTS": hosts,
        "API_BASE_URL": options.origin,
        "FRONTEND_URL": options.origin,
        "DATABASE_URL": embedded.postgres_url(options.postgres_directory),
        "REDIS_URL": embedded.redis_url(options.redis_directory),
    }
    if not is_set("STRIPE_SECRET_KEY", given):
        # The same keys on every run, or Stripe's objects in the database would belong to another account.
        account = hashlib.sha256(f"stripe {secret}".encode()).hexdigest()[:32]
        values |= {
            "STRIPE_SECRET_KEY": f"sk_test_{account}",
            "STRIPE_PUBLISHABLE_KEY": f"pk_test_{account}",
            "STRIPE_API_BASE": options.sandbox_origin,
        }
    filled = {name: given[name] if is_set(name, given) else value for name, value in values.items()}
    return {**given, **filled, "VAR_DIR": str(options.var), "PYTHONUNBUFFERED": "1"}


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _secret_key(var: Path) -> str:
    path = var / "secret_key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text().strip()
