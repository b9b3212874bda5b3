"""Reading what the control API is sent: a form's texts or JSON, checked the same way."""

import datetime
import math
import re
from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request

from sandbox.errors import ApiError, unknown_parameter
from sandbox.v2 import decode_body

Reader = Callable[[Any], Any]
STEP_NAMES = ("hour", "day", "month", "next")


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def whole(value: Any) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?\d{1,15}", str(value)):
        raise ValueError("a whole number")
    return int(value)


def forward(value: Any) -> int:
    number = whole(value)
    if number < 0:
        raise ValueError("a number of seconds, 0 or more")
    return number


def number(value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise ValueError("a number") from None
    if isinstance(value, bool) or not math.isfinite(found):
        raise ValueError("a number")
    return found


def yes(value: Any) -> bool:
    if value not in (True, "true"):
        raise ValueError("true")
    return True


def step(value: Any) -> str:
    if value not in STEP_NAMES:
        raise ValueError(f"one of {', '.join(STEP_NAMES)}")
    return str(value)


def instant(value: Any) -> int:
    """Return unix seconds from unix seconds or a date and time, which without an offset is in UTC."""
    if isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit()):
        return whole(value)
    try:
        at = datetime.datetime.fromisoformat(text(value))
    except ValueError:
        raise ValueError("unix seconds or a date such as 2026-12-01T09:00") from None
    return int((at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).timestamp())


def days(value: Any) -> list[int]:
    """Return numbers of days from a list, or from a text such as "3, 5, 7"; "none" is an empty list."""
    parts = value if isinstance(value, list) else re.split(r"[\s,]+", text(value).strip())
    return [] if parts == ["none"] else [whole(each) for each in parts]


def texts(value: Any) -> list[str]:
    """Return a list of texts from a list, or from one text with commas."""
    parts = value if isinstance(value, list) else re.split(r"[\s,]+", text(value).strip())
    return [text(each) for each in parts]


CLOCK_FIELDS: dict[str, Reader] = {
    "advance": forward,
    "freeze": yes,
    "frozen_at": instant,
    "resume": yes,
    "start_at": instant,
    "step": step,
    "to": instant,
}
METERING: dict[str, Reader] = {"lag": whole, "report_after": whole}
RETRIES: dict[str, Reader] = {"retry_days": days, "then": text}
RESEND: dict[str, Reader] = {"endpoint": text}
KEY: dict[str, Reader] = {"key": text, "expires_in": forward, "permissions": texts}
ROLL: dict[str, Reader] = {"keep_old": forward}
FAULT: dict[str, Reader] = {
    "kind": text,
    "method": text,
    "path": text,
    "event_type": text,
    "times": whole,
    "probability": number,
    "seed": whole,
    "seconds": number,
    "decline_code": text,
}
REQUIRED = ("kind", "key")


def read(request: Request, fields: dict[str, Reader]) -> dict[str, Any]:
    """Return the fields that were given. Raises ApiError for unknown, missing or malformed ones.

    What a form leaves empty, and null in JSON, counts as not given.
    """
    if request.mimetype == "application/json":
        given = decode_body(request.get_data(), mimetype=request.mimetype)
    else:
        given = dict(request.form.items())
    given = {name: value for name, value in given.items() if value not in ("", None)}
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise unknown_parameter(*unknown)
    for name in REQUIRED:
        if name in fields and name not in given:
            raise ApiError(f"Missing required param: {name}.", param=name)
    values = {}
    for name, value in given.items():
        try:
            values[name] = fields[name](value)
        except ValueError as error:
            raise ApiError(f"Invalid {name}: it must be {error}.", param=name) from None
    return values
