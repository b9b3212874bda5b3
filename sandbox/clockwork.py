"""Moving the sandbox's own clock by hand: on, to a stop, on its way again, and back while there is nothing yet.

It moves in steps of a day at most and lets go of the sandbox in between, so that a year of many
subscriptions does not shut out every other request.
"""

import heapq
import threading
import time
import weakref

from sandbox.agenda import KIND as AGENDA
from sandbox.clock import add_interval
from sandbox.errors import ApiError
from sandbox.state import Sandbox
from sandbox.store import Object

STEP = 86400
FARTHEST = 3653 * STEP
# The end of 2999: dates stay far from where they can no longer be reckoned with.
LAST = 32503679999
# What makes moving back a contradiction: these have dates that must not lie ahead of the clock.
LASTING = ("customer", "subscription")
_MOVING: "weakref.WeakKeyDictionary[Sandbox, Move]" = weakref.WeakKeyDictionary()


class Move:
    """A move of the clock to a moment, in a thread of its own."""

    def __init__(self, state: Sandbox, target: int) -> None:
        self.target = target
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(state,), daemon=True)
        self._thread.start()

    def _run(self, state: Sandbox) -> None:
        try:
            while _step(state, self.target):
                pass
        except Exception as error:
            self.error = error
            raise

    def wait(self, seconds: float | None) -> bool:
        """Return whether the move ended within the time. Raises what stopped it."""
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error
        return not self._thread.is_alive()


def _step(state: Sandbox, target: int) -> bool:
    """Move on by a day, or less where the target is nearer. Returns whether the target lies ahead still."""
    with state.lock:
        now = state.clock.now()
        if now < target:
            state.set_clock(advance=min(target - now, STEP))
        return state.clock.now() < target


def moving(state: Sandbox) -> Move | None:
    """Return the move under way, None for a clock that goes by itself."""
    move = _MOVING.get(state)
    return move if move is not None and not move.wait(0) else None


def move_to(state: Sandbox, target: int, *, wait: float | None = None) -> bool:
    """Move the clock on and do what comes due; return whether it got there within `wait` seconds.

    Raises ApiError for a moment that has passed or is too far off, and (409) while another move is
    under way.
    """
    with state.lock:
        _check(state, target)
        move = _MOVING[state] = Move(state, target)
    return move.wait(wait)


def _check(state: Sandbox, target: int) -> None:
    now = state.clock.now()
    if moving(state) is not None:
        raise ApiError("The clock is being moved already; wait for it to arrive.", status=409)
    if target < now:
        raise ApiError(
            f"The clock only moves forward, and {target} has passed. While there is no customer and no "
            "subscription, start_at moves it back."
        )
    if target > now + FARTHEST:
        raise ApiError("The clock moves on by ten years at most at a time.")


def freeze(state: Sandbox, at: int | None = None, *, wait: float | None = None) -> bool:
    """Stop the clock, now or once it has moved on to `at`. Returns and raises as `move_to` does."""
    with state.lock:
        if at is not None:
            _check(state, at)
        state.set_clock(frozen_at=state.clock.now())
    return True if at is None else move_to(state, at, wait=wait)


def resume(state: Sandbox) -> None:
    """Let a stopped clock run on from where it stands."""
    with state.lock:
        if state.clock.frozen_at is not None:
            state.clock.offset = state.clock.frozen_at - int(time.time())
            state.clock.frozen_at = None
        state.set_clock()


def start_at(state: Sandbox, at: int) -> None:
    """Stop the clock at any moment, also a past one.

    Raises ApiError (409) once there is a customer or a subscription.
    """
    if not 0 <= at <= LAST:
        raise ApiError("Invalid start_at: unix seconds are wanted.", param="start_at")
    with state.lock:
        for kind in LASTING:
            if state.store.count(kind):
                raise ApiError(
                    f"start_at is for an empty sandbox, and this one has a {kind} already. Start with a "
                    "new state file, or advance.",
                    status=409,
                    param="start_at",
                )
        state.set_clock(frozen_at=at)


def a_month_on(at: int) -> int:
    return add_interval(at, interval="month", count=1)


def upcoming(state: Sandbox, *, limit: int = 20, clock: str | None = None) -> list[Object]:
    """Return what is due next on a clock, soonest first, as {what, id, at, clock}."""
    with state.lock:
        rows = (row for row in state.every(AGENDA) if row["clock"] == clock)
        return heapq.nsmallest(limit, rows, key=lambda row: int(row["at"]))
