"""Where a request came from."""

import ipaddress
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the client's IP address.

    X-Forwarded-For is believed for as many entries as proxies are trusted (TRUSTED_PROXIES), counted from
    its end: each proxy appends the address it saw, and everything before that is the client's own say.
    """
    proxies: int = settings.TRUSTED_PROXIES
    address: str = request.META["REMOTE_ADDR"]
    if proxies:
        entries = [entry.strip() for entry in request.headers.get("X-Forwarded-For", "").split(",")]
        if len(entries) >= proxies:
            address = entries[-proxies]
    try:
        return canonical(address)
    except ValueError:
        return str(request.META["REMOTE_ADDR"])


@lru_cache(maxsize=4096)  # Asked at every call of the API, and clients call again.
def canonical(address: str) -> str:
    """Return the one way to write an IP address. Raises ValueError."""
    return str(ipaddress.ip_address(address))
