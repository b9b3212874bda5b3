"""API keys that have been rolled or restricted. Any other test key is let in and may do everything."""

from typing import Any

from sandbox import permissions
from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.wire import check_key, masked

KIND = "_key"


def expire(state: Sandbox, key: str, *, after: int = 0) -> None:
    """Let a key end in so many seconds, as rolling it on Stripe's dashboard does. Raises ApiError for no test key."""
    with state.change():
        row = _row(state, key)
        state.store.put(KIND, key, {**row, "expires_at": state.clock.now() + after})


def restrict(state: Sandbox, key: str, *, to: list[str]) -> None:
    """Let a restricted key do no more than these permissions say. Raises ApiError for another key or no permission."""
    if not key.startswith("rk_"):
        raise ApiError("Only a restricted key, rk_test_…, has permissions.", param="key")
    with state.change():
        row = _row(state, key)
        state.store.put(KIND, key, {**row, "permissions": permissions.check_names(to)})


def _row(state: Sandbox, key: str) -> dict[str, Any]:
    check_key(f"Bearer {key}", basic_user=None)
    return state.find(KIND, key) or {"key": key, "expires_at": None, "permissions": None}


def known(state: Sandbox) -> list[dict[str, Any]]:
    """Return the keys that are not like any other, masked."""
    return [{**row, "key": masked(row["key"])} for row in state.every(KIND)]


def check(state: Sandbox, key: str, *, method: str, path: str) -> None:
    """Raises ApiError where a key has expired (401) or must not do this (403)."""
    row = state.find(KIND, key)
    if row is None:
        return
    if row["expires_at"] is not None and row["expires_at"] <= state.clock.now():
        raise ApiError(f"Expired API Key provided: {masked(key)}", status=401, code="api_key_expired")
    allowed = row["permissions"]
    if allowed is not None and not permissions.allows(allowed, method, path):
        raise ApiError(
            f"The provided key '{masked(key)}' does not have the required permissions for this endpoint on "
            f"account '{state.account_id}'. Having the 'rak_{permissions.needed(method, path)}' permission "
            "would allow this request to continue.",
            status=403,
        )
