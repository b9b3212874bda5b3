"""Checking what is sent: form parameters, or under /v2 JSON, against the schema of an operation."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sandbox.contract.objects import check_value
from sandbox.contract.spec import Operation, Schema, Spec


def check_params(
    spec: Spec, operation: Operation, raw: dict[str, Any], *, as_json: bool = False
) -> Iterator[str]:
    """Yield what is wrong with decoded parameters, one sentence each.

    They are nested dicts and lists of strings; `as_json`, of JSON's own scalars, each of the type the
    document names.
    """
    if as_json:
        schema = {"type": "object", "properties": operation.params, "required": list(operation.required)}
        yield from _check_json(spec, raw, schema, name="")
    else:
        yield from _check_table(spec, raw, operation.params, operation.required, name="")


def _check_json(spec: Spec, value: Any, schema: Schema, *, name: str) -> Iterator[str]:
    """Names come before values: an unknown one is told of with what it may have been meant for."""
    schema = spec.resolve(schema)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        yield from _check_names(value, known, schema.get("required", []), name=name)
        for each in set(value) & set(known):
            yield from _check_json(spec, value[each], known[each], name=_joined(name, each))
    elif isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _check_json(spec, each, schema["items"], name=f"{name}[{index}]")
    else:
        yield from check_value(spec, value, schema, path=name)


def _joined(name: str, each: str) -> str:
    return f"{name}[{each}]" if name else each


def _check_names(
    raw: dict[str, Any], known: dict[str, Schema], required: Iterable[str], *, name: str
) -> Iterator[str]:
    for each in raw:
        if each not in known:
            close = difflib.get_close_matches(each, known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            yield f"unknown parameter {_joined(name, each)}{hint}"
    for each in required:
        if each not in raw:
            yield f"missing parameter {_joined(name, each)}"


def _check_table(
    spec: Spec,
    raw: dict[str, Any],
    known: dict[str, Schema],
    required: tuple[str, ...] | list[str],
    *,
    name: str,
) -> Iterator[str]:
    for each, value in raw.items():
        if each in known:
            yield from check_param(spec, value, known[each], name=_joined(name, each))
    yield from _check_names(raw, known, required, name=name)


def check_param(spec: Spec, value: Any, schema: Schema, *, name: str) -> Iterator[str]:
    """Yield what is wrong with one decoded value."""
    schema = spec.resolve(schema)
    if "anyOf" in schema:
        tries = [list(check_param(spec, value, branch, name=name)) for branch in schema["anyOf"]]
        if all(tries):
            yield from min(tries, key=lambda found: _distance(value, found))
        return
    kind = schema.get("type")
    if kind == "object":
        yield from _check_object(spec, value, schema, name=name)
    elif kind == "array":
        if isinstance(value, list):
            for index, each in enumerate(value):
                yield from check_param(spec, each, schema["items"], name=f"{name}[{index}]")
        else:
            yield f"wrong type at {name}: an array is wanted"
    elif not isinstance(value, str):
        yield f"wrong type at {name}: {kind} is wanted"
    else:
        yield from _check_scalar(value, schema, name=name)


def _distance(value: Any, found: list[str]) -> tuple[bool, int]:
    # The branch of the right shape says most about what is wrong.
    return (
        isinstance(value, dict | list) and any(each.startswith("wrong type") for each in found),
        len(found),
    )


def _check_object(spec: Spec, value: Any, schema: Schema, *, name: str) -> Iterator[str]:
    if isinstance(value, list):  # Keys that are all digits, or none at all, decode as a list.
        value = {str(index): each for index, each in enumerate(value)}
    if not isinstance(value, dict):
        yield f"wrong type at {name}: an object is wanted"
    elif "properties" in schema:
        yield from _check_table(spec, value, schema["properties"], schema.get("required", []), name=name)
    elif isinstance(schema.get("additionalProperties"), dict):
        for each, inner in value.items():
            yield from check_param(spec, inner, schema["additionalProperties"], name=f"{name}[{each}]")


def _check_scalar(value: str, schema: Schema, *, name: str) -> Iterator[str]:
    kind = schema.get("type")
    choices = schema.get("enum")
    if kind == "integer" and not re.fullmatch(r"-?[0-9]+", value):
        yield f"wrong type at {name}: {value!r} is no integer"
    elif kind == "number" and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        yield f"wrong type at {name}: {value!r} is no number"
    elif kind == "boolean" and value not in ("true", "false"):
        yield f"wrong type at {name}: {value!r} is neither true nor false"
    elif choices is not None:
        if value not in choices and not schema.get("x-stripeBypassValidation"):
            close = difflib.get_close_matches(value, choices, n=1)
            yield f"{value!r} is not allowed at {name}" + (f" (did you mean {close[0]!r}?)" if close else "")
    elif kind == "string":
        # The document marks only some of the strings that "" may unset, so "" is left to the sandbox itself.
        if len(value) > schema.get("maxLength", len(value)):
            yield f"{name} is longer than {schema['maxLength']} characters"
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{name} does not match {schema['pattern']}"
