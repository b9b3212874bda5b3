"""Rules by which secret scanners find keys.

What is found has the form of a key. Whether it may be one, its checksum says, which no regular expression can
compute. So the rules rather find too much: what stands before a key is not looked at, because in escaped text that
may be a letter or a digit (`\\nsk_live_…`, `key%3dsk_live_…`). What follows is looked at: no escape begins with those.
"""

from collections.abc import Callable

from django.conf import settings

from accounts.models import REF_LENGTH
from apikeys.secret import CHECKSUM_LENGTH, SECRET_LENGTH

# In RE2's and Hyperscan's common words: no look-around. A longer run of characters is another vendor's.
BODY = REF_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH
# Of JSON and programming languages, and of addresses.
ESCAPE = r"\\[abfnrtv]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}"


def key_form() -> str:
    return rf"{settings.API_KEY_PREFIX}_(?:live|test)_[0-9A-Za-z]{{{BODY}}}"


def regex() -> str:
    return rf"{key_form()}\b"


def keywords() -> list[str]:
    return [f"{settings.API_KEY_PREFIX}_live_", f"{settings.API_KEY_PREFIX}_test_"]


def gitleaks() -> str:
    words = ", ".join(f'"{word}"' for word in keywords())
    return f"""\
[[rules]]
id = "tollgate-api-key"
description = "API key of {settings.API_BASE_URL}"
regex = '''({key_form()})\\b'''
secretGroup = 1
keywords = [{words}]
"""


def trufflehog() -> str:
    words = "\n".join(f"      - {word}" for word in keywords())
    return f"""\
detectors:
  - name: tollgate-api-key
    keywords:
{words}
    regex:
      key: '({key_form()})\\b'
"""


def github() -> str:
    """Return what GitHub's form for a custom pattern asks for: it wants to be told what comes before, escapes too."""
    return f"""\
Pattern name: Tollgate API key
Secret format: {key_form()}
Before secret: \\A|[^0-9A-Za-z]|{ESCAPE}
After secret: \\z|[^0-9A-Za-z_]
"""


FORMATS: dict[str, Callable[[], str]] = {
    "regex": regex,
    "gitleaks": gitleaks,
    "trufflehog": trufflehog,
    "github": github,
}
