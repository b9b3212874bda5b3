"""What Redis has seen of keys: from which addresses they were used, and when last.

Exact to ten seconds, and kept for 40 days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from apikeys.addresses import address_text
from apikeys.cache import key_names
from apikeys.instants import from_microseconds
from apikeys.models import APIKey
from usage.redis_client import get_redis


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
