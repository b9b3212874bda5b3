"""The form of an API key: prefix, organization's ref (10), secret (32), checksum (6), all base62.

The checksum lets a mistyped or invented key be refused without any look-up, and lets secret scanners
tell a real key from a look-alike. It protects nothing by itself.
"""

import hashlib
import re
import secrets
import zlib
from typing import NamedTuple

from django.conf import settings

from accounts.models import BASE62, REF_LENGTH

SECRET_LENGTH = 32  # 62^32 is 190 bits.
CHECKSUM_LENGTH = 6  # 62^6 > 2^32.
# Two base62 digits each: a checksum is computed at every call.
PAIRS = [first + second for first in BASE62 for second in BASE62]
DISPLAY_LENGTH = 20
MODES = ("live", "test")

FORM = re.compile(
    rf"([a-z]{{2,8}})_(live|test)_([0-9A-Za-z]{{{REF_LENGTH}}})"
    rf"[0-9A-Za-z]{{{SECRET_LENGTH}}}([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)
LENGTH_AFTER_MODE = REF_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH


class ParsedSecret(NamedTuple):
    """A key whose form and checksum are right. Nothing is known yet of whether it exists."""

    ref: str
    mode: str
    digest: str


def new_secret(ref: str, *, mode: str = "live") -> str:
    """Return a new key for the organization `ref`, as in sk_live_… (`mode` is live or test)."""
    body = f"{settings.API_KEY_PREFIX}_{mode}_{ref}" + "".join(
        secrets.choice(BASE62) for _ in range(SECRET_LENGTH)
    )
    return body + checksum(body)


def checksum(body: str) -> str:
    """Return the CRC-32 of `body` as six base62 digits, padded with zeros."""
    number = zlib.crc32(body.encode())
    return PAIRS[number // 62**4] + PAIRS[number // 62**2 % 62**2] + PAIRS[number % 62**2]


def digest(secret: str) -> str:
    """Return the hexadecimal SHA-256 that is stored instead of the key."""
    # A plain hash is enough: the secret is 190 random bits, not a password.
    return hashlib.sha256(secret.encode()).hexdigest()


def parse(secret: str) -> ParsedSecret | None:
    """Return what a well-formed key says, or None where its form, prefix or checksum is wrong."""
    match = FORM.fullmatch(secret)
    if not match or match[1] != settings.API_KEY_PREFIX or checksum(secret[:-CHECKSUM_LENGTH]) != match[4]:
        return None
    return ParsedSecret(ref=match[3], mode=match[2], digest=digest(secret))


def parse_all(text: str) -> list[ParsedSecret]:
    """Return what the well-formed keys in a text say, whatever stands before and behind them.

    A letter may do so, as in the `\\n` of a quoted string, and so may the beginning of another key.
    """
    prefix = re.escape(settings.API_KEY_PREFIX)
    form = rf"(?=({prefix}_(?:live|test)_[0-9A-Za-z]{{{LENGTH_AFTER_MODE}}}))"
    found = (parse(match[1]) for match in re.finditer(form, text, re.ASCII))
    return [parsed for parsed in found if parsed]
