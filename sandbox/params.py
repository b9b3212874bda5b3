"""What parameters an endpoint takes, written as small tables, and the reading of requests by them.

A table is a dict of name -> type. A name that ends in `!` is required.
"""

import decimal
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.errors import ApiError, missing_parameter, unknown_parameter, unsupported_parameter

Table = Mapping[str, "Type"]


class Type:
    """One parameter's type. `read` returns the typed value or raises ApiError naming `name`."""

    # Whether "" is meaningful. Elsewhere Stripe refuses it as an attempt to unset.
    takes_empty = False

    def read(self, value: Any, *, name: str) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Str(Type):
    max: int = 5000
    pattern: str | None = None

    def read(self, value: Any, *, name: str) -> str:
        if not isinstance(value, str):
            raise ApiError(f"Invalid string: {value}", param=name)
        if len(value) > self.max:
            raise ApiError(
                f"Invalid string: {value[:10]}...{value[-6:]}; must be at most {self.max} characters",
                param=name,
            )
        if self.pattern and not re.fullmatch(self.pattern, value, re.ASCII):
            raise ApiError(f"Invalid {name}: {value[:100]}", param=name)
        return value


@dataclass(frozen=True)
class Int(Type):
    min: int | None = None
    max: int | None = None

    def read(self, value: Any, *, name: str) -> int:
        if isinstance(value, int) and not isinstance(value, bool):  # A JSON number.
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,18}", value):
            raise ApiError(f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
        number = int(value)
        if self.min is not None and number < self.min:
            message = f"This value must be greater than or equal to {self.min}."
            raise ApiError(message, code="parameter_invalid_integer", param=name)
        if self.max is not None and number > self.max:
            message = f"This value must be less than or equal to {self.max} (it currently is '{number}')."
            raise ApiError(message, code="parameter_invalid_integer", param=name)
        return number


@dataclass(frozen=True)
class Bool(Type):
    def read(self, value: Any, *, name: str) -> bool:
        if not isinstance(value, bool) and value not in ("true", "false"):
            raise ApiError(f"Invalid boolean: {value}", param=name)
        return value in ("true", True)


@dataclass(frozen=True)
class Dec(Type):
    """A decimal written as text, up to twelve places, kept exact."""

    def read(self, value: Any, *, name: str) -> decimal.Decimal:
        if not isinstance(value, str) or not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,12})?", value):
            raise ApiError(f"Invalid decimal: {value}", param=name)
        return decimal.Decimal(value)


@dataclass(frozen=True)
class Enum(Type):
    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)

    def read(self, value: Any, *, name: str) -> str:
        if not isinstance(value, str) or value not in self.values:
            *most, last = self.values
            listed = f"{', '.join(most)}{',' if len(most) > 1 else ''} or {last}" if most else last
            leaf = name.rstrip("]").split("[")[-1]
            raise ApiError(f"Invalid {leaf}: must be {'one of ' if most else ''}{listed}", param=name)
        return str(value)


class Choice(Enum):
    """One of Stripe's choices, of which the sandbox takes the first only."""

    def read(self, value: Any, *, name: str) -> str:
        chosen = super().read(value, name=name)
        if chosen != self.values[0]:
            raise ApiError(
                f"The sandbox does not support {name}={chosen} (Stripe does).",
                code="sandbox_unsupported",
                param=name,
            )
        return chosen


@dataclass(frozen=True)
class Obj(Type):
    table: Table

    def read(self, value: Any, *, name: str) -> dict[str, Any]:
        # An object with no entries is how an encoder writes {}; nested decoding yields [] for it.
        if value == []:
            value = {}
        if not isinstance(value, dict):
            raise ApiError("Invalid object", param=name)
        return read_table(value, self.table, prefix=name)


@dataclass(frozen=True)
class ListOf(Type):
    item: Type

    def read(self, value: Any, *, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise ApiError("Invalid array", param=name)
        return [self.item.read(each, name=f"{name}[{index}]") for index, each in enumerate(value)]


@dataclass(frozen=True)
class EmptyOr(Type):
    """Takes "" as well, read as None: the value is unset."""

    type: Type
    takes_empty = True

    def read(self, value: Any, *, name: str) -> Any:
        return None if value == "" else self.type.read(value, name=name)


@dataclass(frozen=True)
class OneOf(Type):
    types: tuple[Type, ...]

    def __init__(self, *types: Type) -> None:
        object.__setattr__(self, "types", types)

    def read(self, value: Any, *, name: str) -> Any:
        errors = []
        for each in self.types:
            try:
                return each.read(value, name=name)
            except ApiError as error:
                errors.append(error)
        raise errors[-1]


@dataclass(frozen=True)
class Strings(Type):
    """Free string keys with string values, such as a meter event's payload."""

    max: int | None = None

    def read(self, value: Any, *, name: str) -> dict[str, str]:
        if value == []:
            value = {}
        if isinstance(value, list):  # Keys that are all digits look like a list on the wire.
            value = {str(index): each for index, each in enumerate(value)}
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise ApiError("Invalid object", param=name)
        for key, each in value.items():
            if self.max is not None:
                Str(self.max).read(each, name=f"{name}[{key}]")
        return value


@dataclass(frozen=True)
class Metadata(Type):
    """At most 50 keys of 40 characters and values of 500; "" unsets one key, or all of them."""

    takes_empty = True

    def read(self, value: Any, *, name: str) -> dict[str, str] | None:
        if value == "":
            return None
        entries = Strings().read(value, name=name)
        if len(entries) > 50:
            raise ApiError("You can only have up to 50 metadata keys.", param=name)
        for key, text in entries.items():
            if len(key) > 40:
                raise ApiError(f"Metadata keys can have up to 40 characters. Key: {key[:60]}", param=name)
            if len(text) > 500:
                raise ApiError(
                    "Metadata values can have up to 500 characters, you passed in a value that is "
                    f"{len(text)} "
                    f"characters. Invalid value: {text[:60]}",
                    param=f"{name}[{key}]",
                )
        return entries


@dataclass(frozen=True)
class NewMetadata(Metadata):
    """Metadata where there is none yet, so that nothing can be unset."""

    takes_empty = False


@dataclass(frozen=True)
class Unsupported(Type):
    """Stripe takes it, the sandbox does not yet."""

    takes_empty = True

    def read(self, value: Any, *, name: str) -> Any:
        raise unsupported_parameter(name)


def unsupported(*names: str) -> dict[str, Type]:
    return {name: Unsupported() for name in names}


STR, INT, BOOL, DEC, METADATA = Str(), Int(), Bool(), Dec(), Metadata()
# For what is being created: nothing can be unset yet.
NEW_METADATA = NewMetadata()
# Up to the year 3000: what is later was meant as milliseconds, and has no calendar to bill by.
TIME = Int(min=0, max=32_503_680_000)
ID = Str()
CURRENCY = Str(max=3, pattern="[A-Za-z]{3}")
EXPAND: dict[str, Type] = {"expand": ListOf(STR)}
RANGE = OneOf(Obj({"gt": TIME, "gte": TIME, "lt": TIME, "lte": TIME}), TIME)
PAGE: dict[str, Type] = {**EXPAND, "limit": Int(), "starting_after": STR, "ending_before": STR}
ADDRESS = EmptyOr(
    Obj({part: EmptyOr(STR) for part in ("city", "country", "line1", "line2", "postal_code", "state")})
)


def read_table(raw: Mapping[str, Any], table: Table, *, prefix: str = "") -> dict[str, Any]:
    """Return the typed parameters. Raises ApiError for unknown, missing, empty or malformed ones."""
    known = {name.rstrip("!"): kind for name, kind in table.items()}
    unknown = [_join(prefix, name) for name in raw if name not in known]
    if unknown:
        raise unknown_parameter(*unknown)
    for name in table:
        if name.endswith("!") and name[:-1] not in raw:
            raise missing_parameter(_join(prefix, name[:-1]))
    values = {}
    for name, value in raw.items():
        full, kind = _join(prefix, name), known[name]
        if value == "" and not kind.takes_empty:
            raise ApiError(
                f"You passed an empty string for '{full}'. We assume empty values are an attempt to unset a "
                f"parameter; however '{full}' cannot be unset. You should remove '{full}' from your "
                "request or "
                "supply a non-empty value.",
                code="parameter_invalid_empty",
                param=full,
            )
        values[name] = kind.read(value, name=full)
    return values


def _join(prefix: str, name: str) -> str:
    return f"{prefix}[{name}]" if prefix else name


def merge_metadata(current: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Return Stripe's merge: named keys are set, a key given "" goes, None (metadata="") clears all."""
    if change is None:
        return {}
    merged = {**current, **change}
    return {key: value for key, value in merged.items() if value != ""}
