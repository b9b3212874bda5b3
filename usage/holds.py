"""What readers of a Redis stream have in hand: ranges of ids, a page each, in a hash beside the stream.

A consumer group keeps that itself, entry by entry, and writes each to its append-only file: that is three quarters of
what Redis has to do for a drain. A reader says what it will have in hand before it reads, and the group only counts on
(NOACK). What is held is never less than what was read and not stored, and may be more: events are stored once anyhow.
"""

from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from usage.redis_client import get_redis

SCRIPT = (Path(__file__).parent / "holds.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Hold(NamedTuple):
    """What a reader has in hand: the entries from `first` to `last`, both included.

    Until the reader has said so `last` is empty and `size` is 0. `since` is in milliseconds of Redis's clock.
    """

    first: str
    last: str
    size: int
    since: int
    consumer: str

    @classmethod
    def of(cls, text: str) -> "Hold":
        first, last, size, since, consumer = text.split("|", 4)
        return cls(first, last, int(size), int(since), consumer)


def key_of(stream: str) -> str:
    """Return the name of the hash, which a cluster keeps where it keeps the stream."""
    return f"{{{stream}}}:holds"


def holds_of(stream: str) -> list[Hold]:
    """Return what all readers have in hand. Raises redis.exceptions.RedisError."""
    values: Any = get_redis().hvals(key_of(stream))
    return [Hold.of(value) for value in values]
