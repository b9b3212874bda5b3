"""What readers of a Redis stream have in hand: ranges of ids, a page each, in a hash beside the stream.

A consumer group keeps that itself, entry by entry, and writes each to its append-only file: that is four fifths of
what Redis has to do for a drain. Here a reader looks at a page, and takes it in one step if nobody was quicker: the
hold is written, and the group counts on. So each entry is held by somebody or still to come.
"""

from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from usage.redis_client import get_redis

SCRIPT = (Path(__file__).parent / "holds.lua").read_text()
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Hold(NamedTuple):
    """What a reader has in hand: the entries from `first` to `last`, both included, `size` in all, or 0 if not known.

    `since` is in milliseconds of Redis's clock.
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
    return f"tollgate:holds:{{{stream}}}"


def holds_of(stream: str) -> list[Hold]:
    """Return what all readers have in hand. Raises redis.exceptions.RedisError."""
    values: Any = get_redis().hvals(key_of(stream))
    return [Hold.of(value) for value in values]
