"""IP addresses as the gate compares them: the family's digit, then the address in hexadecimal, as text in order."""

import ipaddress
from functools import lru_cache

IPv4 = ipaddress.IPv4Address


@lru_cache(maxsize=4096)
def address_digits(address: str) -> str:
    """Return "4" and 8 hexadecimal digits for an IPv4 address, "6" and 32 for an IPv6 one.

    An IPv4 address within IPv6 (RFC 4291, 2.5.5.2), which a dual-stack socket shows, is the IPv4 address.
    Raises ValueError.
    """
    return digits_of(ipaddress.ip_address(address))


def address_text(digits: str) -> str:
    """Return the address that `address_digits` made `digits` from."""
    number = int(digits[1:], 16)
    return str(IPv4(number) if digits[0] == "4" else ipaddress.IPv6Address(number))


def address_range(network: str) -> str:
    """Return the first and the last address of a CIDR network, each in digits, with a hyphen between.

    Raises ValueError.
    """
    parsed = ipaddress.ip_network(network)
    return f"{digits_of(parsed.network_address)}-{digits_of(parsed.broadcast_address)}"


def digits_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
    return f"4{int(plain):08x}" if isinstance(plain, IPv4) else f"6{int(plain):032x}"
