"""IP addresses as the gate compares them: 32 hexadecimal digits, IPv4 in its place within IPv6."""

import ipaddress
from functools import lru_cache

MAPPED = 0xFFFF_0000_0000  # ::ffff:0:0/96, RFC 4291, 2.5.5.2.


@lru_cache(maxsize=4096)  # Asked at every call, and clients call again.
def address_digits(address: str) -> str:
    """Return an IPv4 or IPv6 address as 32 hexadecimal digits; equal addresses have equal digits.

    Raises ValueError.
    """
    return f"{as_number(ipaddress.ip_address(address)):032x}"


def address_text(digits: str) -> str:
    """Return the address that `address_digits` made `digits` from."""
    address = ipaddress.IPv6Address(int(digits, 16))
    return str(address.ipv4_mapped or address)


def address_range(network: str) -> str:
    """Return the first and the last address of a CIDR network as "<digits>-<digits>". Raises ValueError."""
    parsed = ipaddress.ip_network(network)
    return f"{as_number(parsed.network_address):032x}-{as_number(parsed.broadcast_address):032x}"


def as_number(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return int(address) + MAPPED if address.version == 4 else int(address)
