"""What drains have in hand, seen from beside them, in whichever Redis."""

from typing import Any

from usage.holds import Hold, key_of
from usage.reading import Page, Reader
from usage.stream import GROUP, STREAM


def take(consumer: str) -> Page:
    """Take what is on the stream in hand, as a drain does that goes no further."""
    return Reader(STREAM, GROUP, consumer).read()


def holds(redis: Any) -> dict[str, Hold]:
    return {token: Hold.of(text) for token, text in redis.hgetall(key_of(STREAM)).items()}


def in_hand(redis: Any) -> list[tuple[str, dict[str, str]]]:
    """Return the entries of the stream that somebody has in hand."""
    found: dict[str, dict[str, str]] = {}
    for hold in holds(redis).values():
        found |= redis.xrange(STREAM, hold.first, hold.last or "+")
    return sorted(found.items())


def let_time_pass(redis: Any, *, ms: int) -> None:
    """Let what readers have in hand look as if they had had it for so much longer. Redis's own clock stands by."""
    for token, hold in holds(redis).items():
        since = max(hold.since - ms, 0)
        said = f"{hold.first}|{hold.last}|{hold.size}|{since}|{hold.consumer}"
        # One that was let go of meanwhile must not come back.
        redis.eval(
            "return redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 and redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])",
            *(1, key_of(STREAM), token, said),
        )
