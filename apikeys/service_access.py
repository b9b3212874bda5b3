"""Whether a service token is good, for every call of the gateway.

Redis has a copy of the tokens in use, under the rule that the copies of keys are under (`apikeys.cache`): filling
it and changing what it copies both happen with the token's row locked, and a change drops the copy before it
commits. So the call after a revocation is refused, in every process. With Redis out of reach PostgreSQL is asked.
"""

import logging
import time
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q
from redis.exceptions import RedisError

from accounts import clock
from apikeys.instants import to_microseconds
from apikeys.models import ServiceToken
from apikeys.models.service_tokens import find_digest
from usage.lines import lines
from usage.outage import outage
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

IDLE = timedelta(days=1)
NOTE_EVERY = timedelta(minutes=1)
# When this process last wrote down that a token was used. Nothing is decided by it.
noted: dict[UUID, float] = {}


class ServiceAccess(NamedTuple):
    """A service token that is neither revoked nor expired."""

    token_id: UUID
    scopes: frozenset[str]


def find_access(secret: str) -> ServiceAccess | None:
    """Return what a service token may do, None where there is no such token in use.

    Raises OperationalError, InterfaceError or InternalError where neither Redis nor PostgreSQL can say.
    """
    digest = find_digest(secret)
    if digest is None:
        return None
    record: Any = None
    if not outage.is_on:
        try:
            record = lines.call("GET", name(digest))
        except RedisError:
            outage.begin()
    record = record or read(digest)
    return access(record) if record else None


def access(record: str) -> ServiceAccess | None:
    id_, expires, scopes = record.split("|")
    if expires and to_microseconds(clock.now()) >= int(expires):
        return None
    found = ServiceAccess(UUID(id_), frozenset(scopes.split()))
    note_use(found.token_id)
    return found


def read(digest: str) -> str | None:
    """Read PostgreSQL, and copy to Redis what it says."""
    if outage.is_on:
        token = ServiceToken.objects.filter(digest=digest).first()
        return record_of(token) if token else None
    try:
        with transaction.atomic():
            return copy(digest)
    except DatabaseError:
        # The lock may have gone with the connection before the copy was written: nobody may rely on it.
        drop(digest)
        raise


def copy(digest: str) -> str | None:
    """Part of a transaction, whose end lets go of the lock."""
    token = ServiceToken.objects.select_for_update().filter(digest=digest).first()
    record = record_of(token) if token else None
    if record:
        try:
            get_redis().set(name(digest), record, px=IDLE)
        except RedisError:
            outage.begin()
    return record


def record_of(token: ServiceToken) -> str | None:
    if token.revoked_at is not None:
        return None
    expires = str(to_microseconds(token.expires_at)) if token.expires_at else ""
    return f"{token.pk}|{expires}|{' '.join(token.scopes)}"


def drop(digest: str) -> None:
    """Make the next call read PostgreSQL. Raises RedisError, which must undo the change it was called for."""
    get_redis().delete(name(digest))


def name(digest: str) -> str:
    return f"tollgate:service-token:{digest}"


def note_use(token_id: UUID) -> None:
    """Write down that a token is in use: at most once a minute in each process, not at each call."""
    now = time.monotonic()
    if now < noted.get(token_id, 0.0):
        return
    noted[token_id] = now + NOTE_EVERY.total_seconds()
    at = clock.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=at - NOTE_EVERY)
    try:
        ServiceToken.objects.filter(stale, pk=token_id).update(last_used_at=at)
    except DatabaseError:
        logger.warning("PostgreSQL is unreachable: the use of service token %s is not noted", token_id)
