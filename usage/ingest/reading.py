"""From JSON to events: what each part must be, whatever it names."""

import re
from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from usage.events import EPOCH, MICROSECOND
from usage.ingest.items import CLOUD, PLAIN, Item, Names, Refused, Value, make_item

LENGTH = 255  # Characters of a source, an id or a text that is counted.
DIGITS = 40
FIELDS = frozenset(PLAIN)
# RFC 3339, 5.6, which is narrower than what Python reads, and where a time without an offset is none.
RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,12})?(?P<offset>[Zz]|[+-]\d\d:[0-5]\d)?", re.ASCII
)
SPECIFICATION = "1.0"


def read_plain(sent: Any) -> Item:
    """Return an event of Tollgate's own form. Raises Refused."""
    if not isinstance(sent, dict):
        raise Refused("invalid", f"An event is a JSON object, and this is {kind_of(sent)}.")
    unknown = sent.keys() - FIELDS
    if unknown:
        # Or a misspelt `time` would be taken for none.
        raise Refused("invalid", f"There is no such field: {shown(min(unknown))}.")
    return read(sent, sent.get("organization"), sent.get("meter"), sent.get("value"), PLAIN)


def read_cloud(sent: Any) -> Item:
    """Return the event that a CloudEvent, version 1.0, tells of. Raises Refused.

    `data` may say more than its `value`, and there may be further attributes.
    """
    if not isinstance(sent, dict):
        raise Refused("invalid", f"A CloudEvent is a JSON object, and this is {kind_of(sent)}.")
    version = sent.get("specversion")
    if version != SPECIFICATION:
        what = "missing" if version is None else "invalid"
        raise Refused(what, "specversion has to be “1.0”: no other version of CloudEvents is known here.")
    data = sent.get("data")
    if data is None and "data_base64" in sent:
        raise Refused("invalid", "Send the data as JSON in `data`, not in `data_base64`.")
    value = data.get("value") if isinstance(data, dict) else None
    return read(sent, sent.get("subject"), sent.get("type"), value, CLOUD)


def read(sent: Mapping[str, Any], organization: Any, meter: Any, value: Any, names: Names) -> Item:
    source, id_ = sent.get("source"), sent.get("id")
    check_text(source, names.source)
    check_text(id_, names.id)
    check_text(organization, names.organization)
    check_text(meter, names.meter)
    time = sent.get("time")
    try:
        return make_item(
            source=source,  # type: ignore[arg-type]  # As it was checked to be.
            id=id_,  # type: ignore[arg-type]
            organization=organization,
            meter=meter,
            time=None if time is None else read_time(time, names),
            value=None if value is None else read_value(value, names),
            names=names,
        )
    except UnicodeEncodeError as error:
        raise Refused(
            "invalid", "One of the texts has half of a surrogate pair, which is no character."
        ) from error


def check_text(text: object, name: str) -> None:
    if type(text) is str and 0 < len(text) <= LENGTH and "\0" not in text:
        return
    if text is None:
        raise Refused("missing", f"{name} is missing.")
    if not isinstance(text, str):
        raise Refused("invalid", f"{name} has to be a text, and this is {kind_of(text)}.")
    if not text:
        raise Refused("missing", f"{name} is empty.")
    if len(text) > LENGTH:
        raise Refused("oversized", f"{name} has {len(text):,} characters: {LENGTH} is the most.")
    raise Refused("invalid", f"{name} has a NUL character.")


def read_time(time: object, names: Names) -> int:
    """Return microseconds since 1970; what is finer is cut off."""
    found = RFC_3339.fullmatch(time) if isinstance(time, str) else None
    if found is None or not isinstance(time, str):
        raise Refused("invalid", f"{names.time} has to be as in RFC 3339: 2026-11-30T23:59:59Z.")
    if found["offset"] is None:
        raise Refused("invalid", f"{names.time} names no instant without an offset: end it with Z for UTC.")
    try:
        # A date that there is not, such as 30 February, or a second of 60.
        moment = datetime.fromisoformat(time.upper())
    except ValueError as error:
        raise Refused("invalid", f"{names.time} is no time that there is: {time}.") from error
    return (moment - EPOCH) // MICROSECOND


def read_value(value: object, names: Names) -> Value:
    """Return a number or a text. A number that is whole is an int, also where it was written 5.0.

    Raises Refused, or UnicodeEncodeError for a text that is no Unicode.
    """
    kind = type(value)
    if kind is int:
        number: int = value  # type: ignore[assignment]  # mypy does not follow type().
        if abs(number) >= 10**DIGITS:
            raise Refused("too_large", f"{names.value} has more than {DIGITS} digits.")
        return number
    if isinstance(value, float):
        if not isfinite(value):
            raise Refused("not_finite", f"{names.value} has to be a finite number.")
        if value.is_integer() and abs(value) < 10**DIGITS:
            return int(value)
        return value
    if isinstance(value, str):
        check_text(value, names.value)
        value.encode()
        return value
    raise Refused("invalid", f"{names.value} has to be a number or a text, and this is {kind_of(value)}.")


def kind_of(value: object) -> str:
    """Return what JSON calls it, with its article."""
    return {
        bool: "a boolean",
        dict: "an object",
        list: "an array",
        str: "a text",
        type(None): "null",
    }.get(type(value), "a number")


def shown(name: str) -> str:
    """Return what was sent as it may be shown: short, and with nothing in it that cannot be written."""
    return name[:40].encode(errors="replace").decode().replace("\0", "?")
