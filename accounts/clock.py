"""The time, for every app. The one place that a test or the demo moves."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.utils import timezone

_standing: datetime | None = None


def now() -> datetime:
    """Return the present as an aware UTC datetime, or the moment at which the clock was made to stand."""
    return timezone.now() if _standing is None else _standing


def find_standing() -> datetime | None:
    """Return the moment at which the clock was made to stand, None where it runs.

    For those who go by another clock than this process's as long as they may.
    """
    return _standing


class Hands:
    """What moves a standing clock."""

    def move(self, to: datetime) -> None:
        """Let it be `to`, in all threads of this process. Raises ValueError for a step back or a naive time."""
        global _standing  # noqa: PLW0603  # A clock is what a process has one of.
        to = _aware(to)
        if _standing is None:
            raise ValueError("The clock runs by itself again: nobody moves it.")
        if to < _standing:
            raise ValueError(f"Time does not run backwards: it is {_standing}, {to} is over.")
        _standing = to


@contextmanager
def standing_at(moment: datetime) -> Iterator[Hands]:
    """Make the clock of this process stand at `moment` inside the block, and give what moves it on.

    Nothing outside the process knows of it: PostgreSQL's now() and Redis's TIME stay what they are.
    Raises ValueError for a naive time.
    """
    global _standing  # noqa: PLW0603
    before, _standing = _standing, _aware(moment)
    try:
        yield Hands()
    finally:
        _standing = before


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} names no instant: it lacks a time zone.")
    return moment.astimezone(UTC)
