"""Endpoints: a decorator that names method, path and parameters, and what a handler is given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import ApiError, missing_resource
from sandbox.params import EXPAND, PAGE, Table
from sandbox.state import Sandbox
from sandbox.store import Object

Handler = Callable[["Call"], "Object | ApiError"]


@dataclass
class Call:
    """One request, decoded: the sandbox inside a change, path arguments and typed parameters."""

    state: Sandbox
    params: dict[str, Any]
    args: dict[str, str]
    path: str
    # As they came, for what must be repeated as it came.
    raw: dict[str, Any] = field(default_factory=dict)

    def page(self, objects: list[Object]) -> Object:
        """Return one page, as Stripe lists things, of objects given newest first.

        Raises ApiError where the limit is outside 1-100 or a cursor names an object that is not there.
        """
        params = self.params
        limit = params.get("limit", 10)
        if not 1 <= limit <= 100:
            bound, sign = ("greater", "1") if limit < 1 else ("less", "100")
            raise ApiError(
                f"This value must be {bound} than or equal to {sign} (it currently is '{limit}').",
                code="parameter_invalid_integer",
                param="limit",
            )
        if "created" in params:
            objects = [each for each in objects if within(each["created"], params["created"])]
        after, before = params.get("starting_after"), params.get("ending_before")
        if after is not None and before is not None:
            raise ApiError("You may only specify one of these parameters: starting_after, ending_before.")
        if after is not None:
            start = self._position(objects, after, param="starting_after") + 1
            chosen, more = objects[start : start + limit], len(objects) > start + limit
        elif before is not None:
            end = self._position(objects, before, param="ending_before")
            chosen, more = objects[max(end - limit, 0) : end], end > limit
        else:
            chosen, more = objects[:limit], len(objects) > limit
        return {"object": "list", "data": chosen, "has_more": more, "url": self.path}

    def _position(self, objects: list[Object], identifier: str, *, param: str) -> int:
        for index, each in enumerate(objects):
            if each["id"] == identifier:
                return index
        raise missing_resource("object", identifier, param=param, status=400)


def within(value: int, limits: int | dict[str, int]) -> bool:
    """Return whether a time meets a list filter: one exact second, or gt/gte/lt/lte bounds."""
    if isinstance(limits, int):
        return value == limits
    checks = {"gt": value.__gt__, "gte": value.__ge__, "lt": value.__lt__, "lte": value.__le__}
    return all(checks[name](bound) for name, bound in limits.items())


# Compared by identity, since werkzeug keeps endpoints in a dict.
@dataclass(frozen=True, eq=False)
class Endpoint:
    method: str
    path: str
    params: Table
    handle: Handler


ENDPOINTS: list[Endpoint] = []


def endpoint(method: str, path: str, params: Table | None = None) -> Callable[[Handler], Handler]:
    """Register a handler. `expand` comes with every endpoint of /v1; page parameters only with `lists`."""
    shared = EXPAND if path.startswith("/v1/") else {}

    def register(handler: Handler) -> Handler:
        ENDPOINTS.append(Endpoint(method, path, {**shared, **(params or {})}, handler))
        return handler

    return register


def get(path: str, params: Table | None = None) -> Callable[[Handler], Handler]:
    return endpoint("GET", path, params)


def lists(path: str, params: Table | None = None) -> Callable[[Handler], Handler]:
    return endpoint("GET", path, {**PAGE, **(params or {})})


def post(path: str, params: Table | None = None) -> Callable[[Handler], Handler]:
    return endpoint("POST", path, params)


def delete(path: str, params: Table | None = None) -> Callable[[Handler], Handler]:
    return endpoint("DELETE", path, params)
