"""Doing by page what the API does: the hosted pages press the same handlers, so both keep one set of rules."""

import functools
from collections.abc import Mapping
from typing import Any

from werkzeug.routing import Map, Rule

from sandbox.errors import ApiError
from sandbox.params import read_table
from sandbox.render import expand
from sandbox.routing import ENDPOINTS, Call
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.wire import decode_pairs


@functools.cache
def _routes() -> Map:
    # Made at first use, when every resource has registered its endpoints.
    return Map(
        [Rule(each.path, methods=[each.method], endpoint=each) for each in ENDPOINTS],
        strict_slashes=False,
        merge_slashes=False,
    )


def perform(
    state: Sandbox, method: str, path: str, params: Mapping[str, str] | None = None
) -> Object | ApiError:
    """Do what the API would do for a request, inside the change in progress and on its clock.

    `params` is a form as it goes over the wire: {"items[0][id]": "si_…"}. Returns the answer as the
    API shows it, or the refusal that leaves something behind (a declined card). Raises ApiError for
    any other refusal.
    """
    chosen, args = _routes().bind("", url_scheme="http").match(path, method=method)
    typed: dict[str, Any] = read_table(decode_pairs((params or {}).items()), chosen.params)
    paths = typed.pop("expand", [])
    result: Object | ApiError = chosen.handle(Call(state=state, params=typed, args=dict(args), path=path))
    if isinstance(result, ApiError):
        return result
    return expand(state, state.render(result), paths)


def demand(state: Sandbox, method: str, path: str, params: Mapping[str, str] | None = None) -> Object:
    """Do the same where a refusal of either sort is an error. Raises ApiError."""
    result = perform(state, method, path, params)
    if isinstance(result, ApiError):
        raise result
    return result


def message_of(error: ApiError) -> str:
    """Return a refusal's words for people."""
    return str(error.body["error"]["message"])
