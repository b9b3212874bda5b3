"""What time will bring: dated entries, each done once at its own moment when its clock reaches it.

An entry belongs to the clock that was in force when it was set: a test clock, or the sandbox's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.state import Sandbox

log = logging.getLogger("sandbox")

Work = Callable[["Sandbox", str], None]

KIND = "_agenda"
_WORK: dict[str, tuple[int, Work]] = {}


def due(what: str, *, rank: int) -> Callable[[Work], Work]:
    """Register what happens to an object when an entry named `what` is due: `work(sandbox, id)`.

    Among entries of one second the lower rank goes first.
    """

    def register(work: Work) -> Work:
        _WORK[what] = (rank, work)
        return work

    return register


def work_of(what: str) -> Work:
    return _WORK[what][1]


def rank_of(what: str) -> int:
    return _WORK[what][0]


class Agenda:
    """The dated entries of one sandbox. At most one entry of a name for an object."""

    def __init__(self, state: Sandbox) -> None:
        self._state = state

    def set(self, what: str, identifier: str, at: int) -> None:
        """Enter or move an entry, on the clock in force. Part of the change in progress."""
        row = {"what": what, "id": identifier, "at": at, "clock": self._state.clock_id}
        self._state.store.put(KIND, f"{what}:{identifier}", row)

    def drop(self, *what: str, identifier: str) -> None:
        """Take entries of an object off, where there are any."""
        for each in what:
            self._state.store.remove(KIND, f"{each}:{identifier}")

    def forget_clock(self, clock: str) -> None:
        """Take every entry of a test clock off."""
        for row in list(self._state.store.every(KIND)):
            if row["clock"] == clock:
                self.drop(row["what"], identifier=row["id"])

    def find(self, what: str, identifier: str) -> int | None:
        """Return when an entry is due, in unix seconds, or None."""
        row = self._state.store.find(KIND, f"{what}:{identifier}")
        return row["at"] if row else None

    def next(self, *, clock: str | None, until: int) -> Object | None:
        """Return the first entry due on a clock up to and with `until`, or None."""
        rows = [
            (row["at"], _WORK[row["what"]][0], order, row)
            for order, row in enumerate(self._state.store.every(KIND))
            if row["clock"] == clock and row["at"] <= until
        ]
        return min(rows, key=lambda each: each[:3])[3] if rows else None

    def run(self, *, clock: str | None, until: int) -> int:
        """Do what is due on a clock, in order of time and each at its own moment. Returns how many were.

        An entry that fails is undone, logged, noted in `mishaps` and given up.
        """
        done = 0
        while (row := self.next(clock=clock, until=until)) is not None:
            try:
                with self._state.change(), self._state.on_clock(clock, at=row["at"]):
                    self.drop(row["what"], identifier=row["id"])
                    _WORK[row["what"]][1](self._state, row["id"])
            except Exception as error:  # Whatever it is: met again at each request, it would stop everything.
                log.exception("%s of %s failed and is given up", row["what"], row["id"])
                with self._state.change():
                    self.drop(row["what"], identifier=row["id"])
                self._state.mishaps.append(f"{row['what']} of {row['id']}: {type(error).__name__}: {error}")
            done += 1
        return done
