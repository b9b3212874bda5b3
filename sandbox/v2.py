"""What /v2 does otherwise than /v1: JSON in, times as text, pages by URL, errors of its own."""

import datetime
import json
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from sandbox.errors import ApiError
from sandbox.params import Int, Str, Strings, Type
from sandbox.routing import Call
from sandbox.store import Object
from sandbox.wire import MAX_DEPTH

PREFIX = "/v2/"
PAGE: dict[str, Type] = {"limit": Int(min=1, max=100), "page": Str(max=500)}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII)
# These v1 codes have another name under /v2.
CODES = {"resource_missing": "not_found"}


def iso(at: int) -> str:
    """Return unix seconds as /v2 writes times: UTC with milliseconds."""
    instant = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass(frozen=True)
class Time(Type):
    """An RFC 3339 date and time with its offset, read as unix seconds."""

    def read(self, value: Any, *, name: str) -> int:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise ApiError(f"Invalid timestamp: {value}. An RFC 3339 date-time is wanted.", param=name)
        try:
            return int(datetime.datetime.fromisoformat(value.upper()).timestamp())
        except ValueError:
            raise ApiError(f"Invalid timestamp: {value}", param=name) from None


@dataclass(frozen=True)
class Texts(Strings):
    """Free string keys with string values: in JSON, unlike in forms, a list is never meant by them."""

    def read(self, value: Any, *, name: str) -> dict[str, str]:
        if isinstance(value, list):
            raise ApiError("Invalid object", param=name)
        return super().read(value, name=name)


@dataclass(frozen=True)
class Metadata(Type):
    """String values; in an update null takes one key away."""

    unsets: bool = False

    def read(self, value: Any, *, name: str) -> dict[str, str | None]:
        gone = {key for key, each in value.items() if each is None} if isinstance(value, dict) else set()
        if gone and not self.unsets:
            raise ApiError("Invalid object", param=name)
        texts = {key: each for key, each in value.items() if key not in gone} if gone else value
        entries = Texts().read(texts, name=name)
        if len(entries) > 50:
            raise ApiError("You can only have up to 50 metadata keys.", param=name)
        return {**entries, **dict.fromkeys(gone)}


def merge_metadata(current: dict[str, str], change: dict[str, str | None]) -> dict[str, str]:
    """Return the merge: named keys are set, those given as None go."""
    merged: dict[str, str | None] = {**current, **change}
    return {key: value for key, value in merged.items() if value is not None}


def decode_body(body: bytes, *, mimetype: str) -> dict[str, Any]:
    """Return a request's JSON object. Raises ApiError for another content type or anything else."""
    if body and mimetype != "application/json":
        raise ApiError(f"Requests under /v2 carry application/json, not {mimetype or 'nothing named'}.")
    try:
        decoded = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise ApiError("Invalid request body: it is not valid JSON.") from None
    if not isinstance(decoded, dict):
        raise ApiError("Invalid request body: a JSON object is wanted.")
    if _depth(decoded) > MAX_DEPTH:
        raise ApiError("Invalid request body: it is nested too deeply.")
    return decoded


def _depth(node: Any) -> int:
    if isinstance(node, dict):
        return 1 + max((_depth(each) for each in node.values()), default=0)
    if isinstance(node, list):
        return 1 + max((_depth(each) for each in node), default=0)
    return 0


def error_body(error: ApiError) -> Object:
    """Return an error as /v2 words it: a code always, and the type."""
    shown = dict(error.body["error"])
    code = shown.get("code")
    if code in CODES:
        shown["code"] = CODES[code]
        shown.pop("doc_url", None)
    elif code is None:
        named = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate_limit"}
        default = "api_error" if error.status >= 500 else "invalid_request"
        shown["code"] = "idempotency_error" if "idempotency" in shown["type"] else None
        shown["code"] = shown["code"] or named.get(error.status, default)
    return {"error": dict(sorted(shown.items()))}


def page(call: Call, objects: list[Object]) -> Object:
    """Return one page of objects given newest first, with the URLs of its neighbours.

    Raises ApiError for a page token that is not one of the sandbox's.
    """
    limit = call.params.get("limit", 20)
    token = call.params.get("page", "0")
    if not re.fullmatch(r"[0-9]{1,9}", token):
        raise ApiError("Invalid page token.", param="page")
    start = int(token)
    asked = {name: value for name, value in call.raw.items() if name not in ("page", "limit")}

    def url(begin: int) -> str:
        return f"{call.path}?{urllib.parse.urlencode([*_pairs(asked), ('limit', limit), ('page', begin)])}"

    return {
        "data": [call.state.render(each) for each in objects[start : start + limit]],
        "next_page_url": url(start + limit) if len(objects) > start + limit else None,
        "previous_page_url": url(max(start - limit, 0)) if start else None,
    }


def _pairs(params: dict[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, dict):
            pairs += [(f"{name}[{key}]", each) for key, each in value.items()]
        elif isinstance(value, list):
            pairs += [(f"{name}[{index}]", each) for index, each in enumerate(value)]
        else:
            pairs.append((name, value))
    return pairs
