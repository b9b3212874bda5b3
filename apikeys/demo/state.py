"""Whether a demo may be played here, and whether one was left half-way."""

import json
from pathlib import Path

from django.conf import settings
from djstripe import models as djstripe

from accounts.models import Organization
from apikeys.demo.errors import DemoError
from usage.models import UsageRollup


def logins_file() -> Path:
    """Where the logins of the demo's people are kept, for `make run` to show."""
    return Path(settings.VAR_DIR) / "demo.json"


def _marker() -> Path:
    return Path(settings.VAR_DIR) / "demo-unfinished"


def check_finished() -> None:
    """Raise DemoError where a demo was stopped half-way: such data are at odds with Stripe's stand-in and the clock."""
    if _marker().exists():
        raise DemoError(
            "A demo was stopped half-way on these data, and they cannot be used: "
            f"remove {settings.VAR_DIR} and begin anew."
        )


def check_empty(*, but_for: str, months: int) -> None:
    """Raise DemoError where anybody lives here already, except the organization of the user `but_for`."""
    others = Organization.objects.exclude(memberships__user__email=but_for)
    if others.exists() or djstripe.Customer.objects.exists() or UsageRollup.objects.exists():
        raise DemoError(
            "There are customers here already, and a demo would mix with them. "
            f"Play it on data of its own: make run VAR=var/demo DEMO={months}"
        )


def mark_started() -> None:
    _marker().touch()


def mark_finished(*, login: str, organizations: int) -> None:
    """Note that all was played, and whose login to show for it."""
    path = logins_file()
    kept = json.loads(path.read_text())
    kept["played"] = {"login": login, "organizations": organizations}
    path.write_text(json.dumps(kept, indent=2))
    _marker().unlink()


def password() -> str:
    """Return the password of everybody in the demo: that of its first customer."""
    return str(json.loads(logins_file().read_text())["customer_password"])
