"""Stripe's nested form encoding: `a[b][0][c]=1`, `a[]=x`; and which keys and versions are let in."""

import re
from collections.abc import Iterable
from typing import Any

from sandbox.errors import ApiError

API_VERSION = "2026-05-27.dahlia"
MAJOR = API_VERSION.rsplit(".", maxsplit=1)[-1]

_SEGMENT = re.compile(r"\[([^\[\]]*)\]")
_INDEX = re.compile(r"[0-9]{1,9}")

# Each level costs a stack frame later on; nothing Stripe accepts is even half as deep.
MAX_DEPTH = 12


def decode_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Turn form or query pairs into nested dicts and lists of strings.

    Numbered keys (`items[0][price]`) become a list in number order. Raises ApiError where one name
    is used both as a value and as a container.
    """
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, rest = (name[: name.index("[")], name[name.index("[") :]) if "[" in name[1:] else (name, "")
        path = [head, *_SEGMENT.findall(rest)]
        if "".join(f"[{part}]" for part in path[1:]) != rest or len(path) > MAX_DEPTH:
            raise ApiError(f"Invalid parameter name: {name[:100]}")
        node = root
        for part, following in zip(path, [*path[1:], None], strict=True):
            key = str(len(node)) if part == "" else part
            if following is None:
                if isinstance(node.get(key), dict):
                    raise ApiError(f"Invalid request: {name} is given as a value and as an object.")
                node[key] = value
            else:
                node = node.setdefault(key, {})
                if not isinstance(node, dict):
                    raise ApiError(f"Invalid request: {name} is given as a value and as an object.")
    return {key: _listed(value) for key, value in root.items()}


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if all(_INDEX.fullmatch(key) for key in node):
        return [_listed(node[key]) for key in sorted(node, key=int)]
    return {key: _listed(value) for key, value in node.items()}


def check_key(authorization: str | None, *, basic_user: str | None) -> str:
    """Return the API key of a request. Raises ApiError (401) for none, a malformed one or a live one."""
    key = basic_user
    if authorization and authorization.lower().startswith("bearer "):
        key = authorization[7:].strip()
    if not key:
        raise ApiError(
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            status=401,
        )
    if key.startswith(("sk_live_", "rk_live_")):
        raise ApiError(
            "The sandbox refuses live keys: it is a stand-in for Stripe and moves no money. Use a key that "
            "begins with sk_test_.",
            status=401,
        )
    if not re.fullmatch(r"(sk|rk)_test_\w+", key):
        raise ApiError(f"Invalid API Key provided: {masked(key)}", status=401)
    return key


def masked(key: str) -> str:
    return key[:8] + "*" * max(len(key) - 12, 4) + key[-4:] if len(key) > 12 else "*" * len(key)


def check_version(version: str | None, *, required: bool = False) -> str:
    """Return the API version to echo. Raises ApiError for a release with another name than ours.

    Under /v2 there is no default, so a request must name its version.
    """
    if version is None and required:
        raise ApiError(f"Requests under /v2 need a Stripe-Version header, such as {API_VERSION}.")
    if version is None:
        return API_VERSION
    if version.split(".")[-1] != MAJOR or not re.match(r"\d{4}-\d{2}-\d{2}\.", version):
        raise ApiError(
            f"Invalid Stripe API version: {version}. The sandbox speaks {API_VERSION} only.",
            code="sandbox_version",
        )
    return version
