"""Taking the secret part of API keys out of texts. Imports no model: logging is set up before there are any."""

import re
from functools import cache
from typing import Any

from django.conf import settings

# What the operator's service tokens begin with.
SERVICE_TOKEN = "tgs_"  # noqa: S105


@cache
def pattern(prefix: str) -> re.Pattern[str]:
    # The first characters, as they are shown everywhere; then what has to go, also where the key is cut short, or
    # where the next one follows with nothing between.
    key = rf"{re.escape(prefix)}_[a-z]{{2,10}}_[0-9A-Za-z]{{12}}"
    return re.compile(rf"({key}|{SERVICE_TOKEN}[0-9A-Za-z]{{8}})[0-9A-Za-z_]+")


def redact(text: str) -> str:
    """Return the text with only the first characters left of each API key and service token in it."""
    return pattern(settings.API_KEY_PREFIX).sub(r"\1…", text)


def redact_all(value: Any) -> Any:
    """Return `value` with every text in its lists and dictionaries redacted, their keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact_all(name): redact_all(each) for name, each in value.items()}
    return [redact_all(each) for each in value] if isinstance(value, list) else value
