"""Checking what is sent: nested form parameters against the schema of an operation."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from sandbox.contract.spec import Operation, Schema, Spec


def check_params(spec: Spec, operation: Operation, raw: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with decoded parameters (nested dicts, lists and strings), one sentence each."""
    yield from _check_table(spec, raw, operation.params, operation.required, name="")


def _check_table(
    spec: Spec,
    raw: dict[str, Any],
    known: dict[str, Schema],
    required: tuple[str, ...] | list[str],
    *,
    name: str,
) -> Iterator[str]:
    for each, value in raw.items():
        full = f"{name}[{each}]" if name else each
        if each in known:
            yield from check_param(spec, value, known[each], name=full)
        else:
            close = difflib.get_close_matches(each, known, n=1)
            yield f"unknown parameter {full}" + (f" (did you mean {close[0]}?)" if close else "")
    for each in required:
        if each not in raw:
            yield f"missing parameter {name}[{each}]" if name else f"missing parameter {each}"


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
    if kind == "integer" and not re.fullmatch(r"-?\d+", value):
        yield f"wrong type at {name}: {value!r} is no integer"
    elif kind == "number" and not re.fullmatch(r"-?\d+(\.\d+)?", value):
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
