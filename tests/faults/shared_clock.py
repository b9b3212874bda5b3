"""One movable clock for all processes of a lane: the machine's own, plus an offset that only grows.

`accounts.clock` is made to stand in each process, and a thread there moves it on every few milliseconds. So the
processes differ by about as much as the clocks of servers in one rack do.
"""

import mmap
import struct
import threading
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from accounts import clock

EVERY_SECONDS = 0.008
FORM = struct.Struct("<q")
NEVER_LEFT: list[AbstractContextManager[clock.Hands]] = []  # A process has no other time.
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SharedClock:
    """The offset, in whole seconds, kept in a file that every process maps."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(FORM.pack(0))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), FORM.size)

    @property
    def offset(self) -> int:
        return int(FORM.unpack_from(self.memory)[0])

    def set_offset(self, seconds: int) -> None:
        if seconds < self.offset:
            raise ValueError("Time does not run backwards.")
        FORM.pack_into(self.memory, 0, seconds)

    def now(self) -> datetime:
        return EPOCH + timedelta(microseconds=time.time_ns() // 1000 + self.offset * 1_000_000)


def keep_time(shared: SharedClock) -> None:
    """Let this process go by the shared clock from now on, to its end."""
    standing = clock.standing_at(shared.now())
    hands = standing.__enter__()
    NEVER_LEFT.append(standing)
    threading.Thread(target=_move, args=(shared, hands), name="clock", daemon=True).start()


def _move(shared: SharedClock, hands: clock.Hands) -> None:
    last = clock.now()
    while True:
        time.sleep(EVERY_SECONDS)
        now = shared.now()
        if now > last:  # The machine's own clock may be set back.
            hands.move(now)
            last = now
