"""Checking what comes back: objects against the schema of an answer, or of their own `object` field."""

from collections.abc import Iterator
from typing import Any

from sandbox.contract.spec import Schema, Spec

PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def check_value(spec: Spec, value: Any, schema: Schema, *, path: str) -> Iterator[str]:
    """Yield where a value lacks, bends or adds to what a schema says, one sentence each."""
    if value is None:
        if not (schema.get("nullable") or spec.resolve(schema).get("nullable")):
            yield f"{path} is null"
        return
    schema = spec.resolve(schema)
    if "anyOf" in schema:
        yield from _check_branches(spec, value, schema["anyOf"], path=path)
        return
    kind = schema.get("type")
    if kind is not None:
        fits = isinstance(value, PYTHON_TYPES[kind])
        if not fits or (isinstance(value, bool) and kind in ("integer", "number")):
            yield f"{path} is {type(value).__name__}, not {kind}"
            return
    if isinstance(value, str):
        yield from _check_text(value, schema, path=path)
    elif isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from check_value(spec, each, schema["items"], path=f"{path}[{index}]")
    elif isinstance(value, dict):
        yield from _check_members(spec, value, schema, path=path)


def _check_text(value: str, schema: Schema, *, path: str) -> Iterator[str]:
    choices = schema.get("enum")
    if choices is not None and value not in choices and not schema.get("x-stripeBypassValidation"):
        yield f"{path} is {value!r}, which is not one of the values it may have"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{path} is longer than {schema['maxLength']} characters"


def _check_members(spec: Spec, value: dict[str, Any], schema: Schema, *, path: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}.{name} is missing"
    properties = schema.get("properties", {})
    for name, each in value.items():
        if name in properties:
            yield from check_value(spec, each, properties[name], path=f"{path}.{name}")
        elif isinstance(schema.get("additionalProperties"), dict):
            inner = schema["additionalProperties"]
            yield from check_value(spec, each, inner, path=f"{path}.{name}")
        elif "properties" in schema or schema.get("additionalProperties") is False:
            yield f"{path}.{name} is unknown"


def _check_branches(spec: Spec, value: Any, branches: list[Schema], *, path: str) -> Iterator[str]:
    """An expandable field is its id or the whole object; the object's own name picks its branch."""
    resolved = [spec.resolve(each) for each in branches]
    if isinstance(value, dict) and isinstance(value.get("object"), str):
        named = [
            each
            for each in resolved
            if value["object"] in each.get("properties", {}).get("object", {}).get("enum", [])
            and ("deleted" in each.get("properties", {})) == bool(value.get("deleted"))
        ]
        resolved = named or resolved
    tries = [list(check_value(spec, value, each, path=path)) for each in resolved]
    if all(tries):
        yield from min(tries, key=len)


def check_by_name(spec: Spec, obj: dict[str, Any], *, path: str) -> Iterator[str]:
    """Yield where an object departs from the schema its `object` field names."""
    name = obj.get("object")
    schema = spec.schemas.get(f"deleted_{name}" if obj.get("deleted") else str(name))
    if schema is None:
        yield f"{path} is a {name!r}, which Stripe's document does not know"
    else:
        yield from check_value(spec, obj, schema, path=path)
