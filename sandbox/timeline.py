"""Which clock a request lives by: that of the customer it is about."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.ids import kind_of
from sandbox.state import Sandbox
from sandbox.store import Object

CLOCK = "test_helpers.test_clock"


def clock_of(state: Sandbox, obj: Object | None) -> str | None:
    """Return the test clock an object is on: its own, its subscription's or its customer's."""
    if obj is None:
        return None
    if obj.get("object") == CLOCK:
        return str(obj["id"])
    clock = obj.get("test_clock")
    if clock:
        # What was on a clock keeps its name when the clock is gone.
        return str(clock) if state.find(CLOCK, clock) is not None else None
    for kind in ("customer", "subscription", "invoice"):
        owner = obj.get(kind)
        if isinstance(owner, str) and (found := clock_of(state, state.find(kind, owner))) is not None:
            return found
    return None


def clock_of_request(state: Sandbox, args: dict[str, str], params: dict[str, Any]) -> str | None:
    """Return the test clock of what the path or the parameters name, None for the sandbox's own.

    Raises ApiError where objects on two different clocks meet in one request.
    """
    found: dict[str, None] = {}
    named = [*args.values(), *(value for name, value in params.items() if name != "expand")]
    for each in named:
        kind = kind_of(each) if isinstance(each, str) else None
        clock = clock_of(state, state.find(kind, each)) if kind else None
        if clock is not None:
            found[clock] = None
    if len(found) > 1:
        raise ApiError(f"These objects are on different test clocks: {', '.join(found)}.")
    return next(iter(found), None)
