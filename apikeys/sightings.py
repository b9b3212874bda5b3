"""What Redis has seen of keys: from which addresses they were used, and when last.

Exact to ten seconds, and kept for 40 days. They are noted beside the gate's decision and not by it: nothing is
decided by them, and a call waits for none of it.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from apikeys.addresses import address_text
from apikeys.cache import key_names
from apikeys.instants import from_microseconds
from apikeys.models import APIKey
from usage.lines import lines
from usage.redis_client import get_redis

EVERY = 10_000_000  # Microseconds: a call sooner after another one from the same address is not noted.
KEPT_SECONDS = 40 * 86_400
MOST = 100  # Addresses of a key; those that called last.
REMEMBERED = 10_000
# When a call with a key from an address is to be noted next, in this process.
due: dict[str, int] = {}


def note(ref: str, digest: str, *, address: str, at: int) -> None:
    """Note a call from an address in digits, or "", at a moment in microseconds: at most one in ten seconds."""
    caller = f"{digest} {address}"
    if at < due.get(caller, 0):
        return
    if len(due) >= REMEMBERED:
        due.clear()
    due[caller] = at + EVERY
    seen = key_names(ref, digest).seen
    with suppress(RedisError):
        # GT: a process whose call was earlier and slower does not take a later one back.
        lines.send("ZADD", seen, "GT", at, address, failed=forget)
        lines.send("ZREMRANGEBYRANK", seen, 0, -MOST - 1, failed=forget)
        lines.send("EXPIRE", seen, KEPT_SECONDS, failed=forget)


def forget() -> None:
    """A sighting that Redis did not take: the next call is another one."""
    due.clear()


@dataclass(frozen=True, slots=True)
class Sighting:
    """The last call from one address, which is empty where it was not known."""

    address: str
    at: datetime


def find_sightings(keys: Sequence[APIKey], *, most: int = 0) -> dict[UUID, list[Sighting]] | None:
    """Return where each key was seen, the latest first, by the key's id; None with Redis out of reach.

    `most` limits how many addresses of each; 0 is all that are kept. One round trip.
    """
    if not keys:
        return {}
    try:
        lines.confirm()  # What this very process has noted is there before it is read.
        pipeline = get_redis().pipeline(transaction=False)
        for key in keys:
            seen = key_names(key.organization.ref, key.digest).seen
            pipeline.zrevrange(seen, 0, most - 1, withscores=True)
        answers: list[Any] = pipeline.execute()
    except RedisError:
        return None
    return {
        key.pk: [
            Sighting(address_text(digits) if digits else "", from_microseconds(int(score)))
            for digits, score in answer
        ]
        for key, answer in zip(keys, answers, strict=True)
    }


def last_use(key: APIKey, sightings: dict[UUID, list[Sighting]] | None) -> datetime | None:
    """Return the last call that is known of: the ledger lags behind Redis, and Redis forgets."""
    seen = (sightings or {}).get(key.pk, [])
    moments = [key.last_used_at, *(sighting.at for sighting in seen)]
    return max((moment for moment in moments if moment), default=None)
