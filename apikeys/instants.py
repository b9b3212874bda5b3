"""Moments as Redis holds them: whole microseconds since 1970, exact in a double until the year 2255."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: str | int) -> datetime:
    return EPOCH + timedelta(microseconds=int(value))
