"""Idempotency keys: the first answer to a key is kept and given again.

Under /v1 for 24 hours, refusals included; under /v2 for 30 days, and only what succeeded.
"""

import hashlib
import json
from typing import Any

from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object

KEPT_FOR = 24 * 3600
KEPT_FOR_V2 = 30 * 86400


def fingerprint(params: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def find_answer(state: Sandbox, key: str, *, path: str, params: dict[str, Any]) -> Object | None:
    """Return the answer kept under a key, as {status, body, request_id}, or None for a new key.

    Raises ApiError where the key came first with another path or other parameters.
    """
    if len(key) > 255:
        raise ApiError("Idempotency keys can be at most 255 characters long.", type="idempotency_error")
    kept = state.find("_idempotency", key)
    lasting = KEPT_FOR_V2 if path.startswith("/v2/") else KEPT_FOR
    if kept is None or kept["at"] + lasting <= state.clock.now():
        return None
    if kept["path"] != path:
        raise ApiError(
            "Keys for idempotent requests can only be used for the same endpoint they were first used for "
            f"('{kept['path']}' vs '{path}'). Try using a key other than '{key}' if you meant to execute a "
            "different request.",
            type="idempotency_error",
        )
    if kept["fingerprint"] != fingerprint(params):
        raise ApiError(
            "Keys for idempotent requests can only be used with the same parameters they were first "
            "used with. "
            f"Try using a key other than '{key}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    return kept


def keep_answer(
    state: Sandbox, key: str, *, path: str, params: dict[str, Any], status: int, body: Object, request_id: str
) -> None:
    """Keep an answer. Called inside the change it belongs to, so neither outlives the other."""
    if path.startswith("/v2/") and status >= 400:
        return
    row = {
        # Keys age by the sandbox's own clock, whichever test clock the request lived by.
        "at": state.clock.now(),
        "path": path,
        "fingerprint": fingerprint(params),
        "status": status,
        "body": body,
        "request_id": request_id,
    }
    state.store.put("_idempotency", key, row)
