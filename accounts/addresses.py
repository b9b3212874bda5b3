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
    return canonical(address) or str(request.META["REMOTE_ADDR"])


def client_network(request: HttpRequest) -> str:
    """Return whom rate limits count: the client's IPv4 address, or the /64 around its IPv6 one.

    A provider gives each of its customers a /64 at least: counted by address, they would have 2^64 tries.
    """
    text = client_address(request)
    found = find_address(text)
    if found is None or found.version == 4:
        return text
    return str(ipaddress.ip_network((found, 64), strict=False))


@lru_cache(maxsize=4096)  # Asked at every call of the API, and clients call again.
def canonical(text: str) -> str:
    """Return the one way to write an IP address, empty where it is none."""
    return str(find_address(text) or "")


def find_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that is written, None where it is none. An IPv4 one in IPv6 form is the IPv4 one."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found
