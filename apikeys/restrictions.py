"""What a key can be given, checked: its name, and what it is restricted to.

Every check returns the value in its stored form, and raises InvalidRestriction with a sentence that names
what is wrong.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from accounts import clock
from apikeys.errors import InvalidRestriction
from apikeys.redaction import redact
from apikeys.scopes import check_scopes

NAME_LENGTH = 100
NETWORKS = 50  # The gate compares each call's address with every one of them.
LONGEST_LIFE = timedelta(days=3653)
HIGHEST_CAP = 2_147_483_647  # The column's.


def check_name(name: str) -> str:
    name = name.strip()
    if not name:
        raise InvalidRestriction("name", "Give the key a name.")
    if len(name) > NAME_LENGTH:
        raise InvalidRestriction("name", f"Use a name of at most {NAME_LENGTH} characters.")
    if not name.isprintable():
        raise InvalidRestriction("name", "The name holds characters that cannot be shown.")
    if redact(name) != name:
        # It would stand on pages, in e-mails and in the database, where no key may.
        raise InvalidRestriction("name", "That is a key itself, which nobody may read: use a word for it.")
    return name


def check_networks(networks: Iterable[str]) -> list[str]:
    """Return CIDR networks, each once. A bare address is a network of one; bits beyond the prefix are cleared."""
    found: dict[str, None] = {}
    for entry in (network.strip() for network in networks):
        if not entry:
            continue
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError as error:
            raise bad_network(entry) from error
        if "%" in entry:  # A zone, as in fe80::1%eth0, means something on that one machine only.
            raise bad_network(entry)
        found[str(network)] = None
    if len(found) > NETWORKS:
        raise InvalidRestriction("allowed_networks", f"Use at most {NETWORKS} networks.")
    return list(found)


def bad_network(entry: str) -> InvalidRestriction:
    return InvalidRestriction(
        "allowed_networks",
        f"“{entry[:60]}” is no network: write an address, or CIDR such as 203.0.113.0/24 or 2001:db8::/32.",
    )


def check_expiry(moment: datetime | None) -> datetime | None:
    now = clock.now()
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidRestriction("expires_at", "The time lacks a time zone.")
    if moment <= now:
        raise InvalidRestriction("expires_at", "Choose a time in the future.")
    if moment > now + LONGEST_LIFE:
        raise InvalidRestriction(
            "expires_at", "That is more than ten years away: leave it empty for a key without an end."
        )
    return moment


def check_cap(cap: int | None) -> int | None:
    if cap is None or 1 <= cap <= HIGHEST_CAP:
        return cap
    raise InvalidRestriction(
        "rate_per_minute", f"Use a whole number from 1 to {HIGHEST_CAP}, or leave it empty for no cap."
    )


CHECKS: dict[str, Callable[[Any], Any]] = {
    "name": check_name,
    "scopes": check_scopes,
    "allowed_networks": check_networks,
    "expires_at": check_expiry,
    "rate_per_minute": check_cap,
}


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields in their stored form. Raises InvalidRestriction, and KeyError for a field not in CHECKS."""
    return {field: CHECKS[field](value) for field, value in fields.items()}
