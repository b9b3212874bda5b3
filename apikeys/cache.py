"""What the gate knows about an organization, copied from PostgreSQL to Redis.

Filling the copy and changing what it is a copy of both happen under the lock on the organization's
entitlement row, and a change drops the copy before it commits. So no process can see an old state after
a change has committed: whoever fills next has waited for that commit.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction

from accounts.models import Organization
from apikeys.addresses import address_range
from apikeys.instants import to_microseconds
from apikeys.models import APIKey
from billing.entitlements import lock_entitlement, refresh_entitlement
from billing.models import Entitlement, PlanQuota
from usage.models import UsageRollup
from usage.redis_client import get_redis

IDLE = timedelta(days=7)  # Memory of organizations that call no more is freed.
ABSENT = timedelta(minutes=1)
KEPT = timedelta(days=40)  # Counters of past periods, to which late answers may still give back.


class Names(NamedTuple):
    """One organization's Redis keys. The braces put them in one slot of a cluster."""

    facts: str
    window: str
    used: str


class KeyNames(NamedTuple):
    """What Redis keeps of one API key, in the slot of its organization."""

    window: str
    seen: str


def names(ref: str) -> Names:
    return Names(*(f"tollgate:{{{ref}}}:{part}" for part in Names._fields))


def key_names(ref: str, digest: str) -> KeyNames:
    # A part of the digest tells an organization's keys apart as well as the whole.
    return KeyNames(*(f"tollgate:{{{ref}}}:{part}:{digest[:16]}" for part in KeyNames._fields))


def counter(meter: str, period_start: datetime, *, livemode: bool = True) -> str:
    return f"{'' if livemode else 'test:'}{meter}:{to_microseconds(period_start)}"


def drop(ref: str) -> None:
    """Make the next call read PostgreSQL. Raises RedisError, which must undo the change it was called for."""
    get_redis().delete(names(ref).facts)


def fill(ref: str, *, now: datetime) -> None:
    """Copy an organization's entitlement and keys to Redis, with the units used so far where no counter is."""
    organization = Organization.objects.filter(ref=ref).first()
    if organization is None:
        keys = names(ref)
        # Anyone can compute a checksum: an invented key costs one look-up a minute, not one a call.
        pipeline = get_redis().pipeline()
        pipeline.hset(keys.facts, "absent", "1")
        pipeline.pexpire(keys.facts, ABSENT)
        pipeline.execute()
        return
    try:
        with transaction.atomic():
            copy(organization, now=now)
    except DatabaseError:
        # The lock may have gone with the connection before the copy was written: nobody may rely on it.
        drop(ref)
        raise


def copy(organization: Organization, *, now: datetime) -> None:
    """Write the copy. Part of the caller's transaction, whose end lets go of the lock."""
    redis = get_redis()
    keys = names(organization.ref)
    entitlement = lock_entitlement(organization)
    if now >= entitlement.valid_until:
        entitlement = refresh_entitlement(organization, now=now)
    facts: dict[Any, Any] = dict(
        facts_of(entitlement)
    )  # Any: redis-py takes a union that str does not match.
    pipeline = redis.pipeline()
    pipeline.delete(keys.facts)
    pipeline.hset(keys.facts, mapping=facts)
    pipeline.pexpire(keys.facts, IDLE)
    for meter in entitlement.quotas:
        start = counter(meter, entitlement.period_start)
        pipeline.hsetnx(keys.used, start, units_so_far(entitlement, meter, used=redis.hgetall(keys.used)))
    # Kept past the period's end, never shorter: a counter that vanished early would be filled from the
    # rollups, which are a moment behind the calls. As a span, because `now` is the gate's clock, not Redis's.
    pipeline.pexpire(keys.used, entitlement.period_end + KEPT - now)
    old = [
        name for name in redis.hkeys(keys.used) if is_old(str(name), before=entitlement.period_start - KEPT)
    ]
    if old:
        pipeline.hdel(keys.used, *old)
    pipeline.execute()


def facts_of(entitlement: Entitlement) -> dict[str, str]:
    """Return what the copy has to hold, as gate.lua reads it."""
    facts = {
        "organization": str(entitlement.organization_id),
        "period_start": str(to_microseconds(entitlement.period_start)),
        "period_end": str(to_microseconds(entitlement.period_end)),
        "valid_until": str(to_microseconds(entitlement.valid_until)),
        "access": entitlement.access,
        "rate": text(entitlement.rate_per_minute),
        "burst": text(entitlement.burst),
    }
    facts |= {f"quota:{meter}": quota_record(quota) for meter, quota in entitlement.quotas.items()}
    keys = APIKey.objects.active().filter(organization=entitlement.organization_id)
    return facts | {f"key:{key.digest}": key_record(key) for key in keys}


def quota_record(quota: dict[str, Any]) -> str:
    blocks = quota["overage"] == PlanQuota.Overage.BLOCK
    return f"{text(quota['included'])}|{text(quota.get('spend_cap'))}|{int(blocks)}"


def key_record(key: APIKey) -> str:
    expires = str(to_microseconds(key.expires_at)) if key.expires_at else ""
    networks = ",".join(map(address_range, key.allowed_networks))
    return f"{key.pk}|{key.mode}|{expires}|{text(key.rate_per_minute)}|{' '.join(key.scopes)}|{networks}"


def find_facts(refs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what the copies of these organizations hold, by ref; who has none is left out. Raises RedisError."""
    pipeline = get_redis().pipeline(transaction=False)
    for ref in refs:
        pipeline.hgetall(names(ref).facts)
    return {ref: held for ref, held in zip(refs, pipeline.execute(), strict=True) if held}


def units_so_far(entitlement: Entitlement, meter: str, *, used: Mapping[Any, Any]) -> int:
    """Return what a new counter begins with: the period's units, and those of periods whose use it carries on.

    An earlier period's counter is ahead of the rollups by what the drain has not stored yet, so it goes first.
    """
    units = period_units(entitlement, meter, entitlement.period_start)
    for start in map(datetime.fromisoformat, reversed(entitlement.carried_from)):
        known = used.get(counter(meter, start))
        if known is not None:
            return units + int(known)  # It began with those before it.
        units += period_units(entitlement, meter, start)
    return units


def period_units(entitlement: Entitlement, meter: str, start: datetime) -> int:
    rollups = UsageRollup.objects.in_period(
        organization_id=entitlement.organization_id, meter=meter, period_start=start
    )
    return rollups.units()


def is_old(name: str, *, before: datetime) -> bool:
    return ":" in name and int(name.rpartition(":")[2]) < to_microseconds(before)


def text(limit: int | None) -> str:
    return "" if limit is None else str(limit)
