"""What the gate knows about an organization, copied from PostgreSQL to Redis.

Filling the copy and changing what it is a copy of both happen under the lock on the organization's
entitlement row, and a change drops the copy before it commits. So no process can see an old state after
a change has committed: whoever fills next has waited for that commit.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction
from django.db.models import Q

from accounts import clock
from accounts.models import Organization
from apikeys.addresses import address_range
from apikeys.instants import to_microseconds
from apikeys.models import APIKey, UncountedUnits
from apikeys.reservations import uncounted_events
from billing.entitlements import lock_entitlement, refresh_entitlement
from billing.models import Entitlement, Meter, PlanQuota
from usage import metering, stream
from usage.counting import Counted, count_period
from usage.redis_client import get_redis

IDLE = timedelta(days=7)  # Memory of organizations that call no more is freed.
ABSENT = timedelta(minutes=1)
BORN = "born"  # Of the hash of counters, not of what PostgreSQL knows.
MEASURING = ("mark:", "read:", "back:")  # Of a counter whose drift is being measured: see drift.py.
TAKEN = "taken"  # In it, when counters were last raised by what PostgreSQL had let in: see mark.lua.
TOOK = "took:"  # In it, each call that PostgreSQL had let in and that was still on its way then: see give_back.lua.
EXPIRED_KNOWN = timedelta(days=30)
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
    prefix = f"tollgate:{{{ref}}}:"
    return Names(f"{prefix}facts", f"{prefix}window", f"{prefix}used")


def key_names(ref: str, digest: str) -> KeyNames:
    # A part of the digest tells an organization's keys apart as well as the whole.
    prefix, part = f"tollgate:{{{ref}}}:", digest[:16]
    return KeyNames(f"{prefix}window:{part}", f"{prefix}seen:{part}")


def counter(meter: str, period_start: datetime, *, livemode: bool = True) -> str:
    return f"{'' if livemode else 'test:'}{meter}:{to_microseconds(period_start)}"


def taken_up(uncounted_id: int, period_start: datetime) -> str:
    """Return the name by which counters remember that they took up what PostgreSQL had charged a call."""
    return f"{TOOK}{uncounted_id}:{to_microseconds(period_start)}"


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
    if is_filled(entitlement, now=now):
        return  # By somebody who had the lock before: of many callers that find nothing, one does the work.
    if now >= entitlement.valid_until:
        entitlement = refresh_entitlement(organization, now=now)
    facts: dict[Any, Any] = facts_of(entitlement)  # Any: redis-py takes a union that str does not match.
    held: dict[str, str] = redis.hgetall(keys.used)  # type: ignore[assignment]  # It may be awaited elsewhere.
    facts[BORN] = held.get(BORN) or secrets.token_hex(4)
    uncounted = list(organization.uncounted_units.all())
    pipeline = redis.pipeline()
    pipeline.delete(keys.facts)
    pipeline.hset(keys.facts, mapping=facts)
    pipeline.pexpire(keys.facts, IDLE)
    pipeline.hset(keys.used, BORN, facts[BORN])
    begun = beginnings(entitlement, held, uncounted)
    for name, counted in begun.items():
        pipeline.hset(keys.used, name, counted.units)
        pipeline.hset(keys.used, f"ingested:{name}", counted.ingested)
    for earlier, later in successions(entitlement):
        pipeline.hset(keys.used, f"into:{earlier}", later)
    for row in uncounted:
        for name in counters_of(entitlement, row):
            if name in held and name not in begun:
                pipeline.hincrby(keys.used, name, row.units)
                pipeline.hset(keys.used, TAKEN, to_microseconds(now))
        if not row.is_stored:
            pipeline.hset(keys.used, taken_up(row.pk, row.period_start), 1)
    # Kept past the period's end, never shorter: a counter that vanished early would be filled from the
    # rollups, which are a moment behind the calls. As a span, because `now` is the gate's clock, not Redis's.
    pipeline.pexpire(keys.used, entitlement.period_end + KEPT - now)
    old = [name for name in held if is_old(name, before=entitlement.period_start - KEPT)]
    if is_doubted(held):
        # A counter by itself has one colon: its meter may be called so.
        old += [name for name in held if name.startswith(MEASURING) and name.count(":") > 1]
    if old:
        pipeline.hdel(keys.used, *old)
    pipeline.execute()
    # Last: what was not committed is counted once more, which refuses too early, never too late.
    organization.uncounted_units.filter(pk__in=[row.pk for row in uncounted]).delete()


def is_filled(entitlement: Entitlement, *, now: datetime) -> bool:
    """Whether a copy is there that needs nothing. Under the lock: it was made after the last change."""
    redis, keys = get_redis(), names(entitlement.organization.ref)
    held: Any = redis.hmget(keys.facts, ["version", "valid_until"])
    version, valid_until = held
    if version != str(entitlement.version) or to_microseconds(now) >= int(valid_until):
        return False
    counters = [counter(meter, entitlement.period_start) for meter in entitlement.quotas]
    return not counters or None not in redis.hmget(keys.used, counters)


def is_doubted(held: Mapping[str, str]) -> bool:
    """Whether counters are of another run of Redis, maybe from an older file: see `usage.restarts`."""
    return BORN not in held


def beginnings(
    entitlement: Entitlement, held: Mapping[str, str], uncounted: Sequence[UncountedUnits]
) -> dict[str, Counted]:
    """Return the units that counters begin with, by counter, for the meters that have none now.

    For all of them where those that are there are in doubt: no lower then than they stand.
    """
    doubted = is_doubted(held)
    names = {meter: counter(meter, entitlement.period_start) for meter in entitlement.quotas}
    missing = [meter for meter, name in names.items() if doubted or name not in held]
    if not missing:
        return {}
    # An event goes from a reservation to the stream to the ledger, where Redis refused it by way of this process's
    # memory: looked for in that order, it is in one of them. Where it is in two the later counts.
    reserved = uncounted_events(entitlement.organization.ref)
    backlog = [*reserved, *stream.backlog(entitlement.organization_id)]
    backlog += metering.kept_events(entitlement.organization_id)
    found = {}
    starts = entitlement.counted_starts
    for meter in missing:
        in_hand = [row for row in uncounted if row.meter == meter and row.period_start in starts]
        units = ingested = least = 0
        for start in reversed(starts):
            known = held.get(counter(meter, start))
            if known is not None:
                # An earlier period's counter holds what it carried on itself, but nothing of what is uncounted.
                stood = units + int(known) + sum(row.units for row in in_hand if row.period_start <= start)
                if not doubted:
                    units = stood
                    ingested += int(held.get(f"ingested:{counter(meter, start)}", 0))
                    break
                least = max(least, stood)
            units += sum(row.units for row in in_hand if row.period_start == start and not row.is_stored)
            recorded = count_period(
                organization_id=entitlement.organization_id, meter=meter, period_start=start, backlog=backlog
            )
            units, ingested = units + recorded.units, ingested + recorded.ingested
        found[names[meter]] = Counted(max(units, least), ingested)
    return found


def successions(entitlement: Entitlement) -> list[tuple[str, str]]:
    """Return each counter whose units another one holds too, and that one: who gives back to it gives to both."""
    return [
        (counter(meter, earlier), counter(meter, later))
        for meter in entitlement.quotas
        for earlier, later in pairwise(entitlement.counted_starts)
    ]


def counters_of(entitlement: Entitlement, row: UncountedUnits) -> list[str]:
    """Return the counters that units of a period count in: its own, and those that it was carried into."""
    starts = entitlement.counted_starts
    later = starts[starts.index(row.period_start) + 1 :] if row.period_start in starts else []
    return [counter(row.meter, start) for start in [row.period_start, *later]]


def facts_of(entitlement: Entitlement) -> dict[str, str]:
    """Return what the copy has to hold, as gate.lua reads it."""
    facts = {
        "organization": str(entitlement.organization_id),
        "version": str(entitlement.version),
        "period_start": str(to_microseconds(entitlement.period_start)),
        "period_end": str(to_microseconds(entitlement.period_end)),
        "valid_until": str(to_microseconds(entitlement.valid_until)),
        "access": entitlement.access,
        "rate": text(entitlement.rate_per_minute),
        "burst": text(entitlement.burst),
    }
    for meter, quota in gated_quotas(entitlement).items():
        blocks = quota["overage"] == PlanQuota.Overage.BLOCK
        facts[f"included:{meter}"] = text(quota["included"])
        facts[f"quota:{meter}"] = text(quota["included"] if blocks else None)
        facts[f"ceiling:{meter}"] = text(quota.get("spend_cap"))
    # Expired ones too for a while, so that the refusal can say so.
    lately = Q(expires_at=None) | Q(expires_at__gt=clock.now() - EXPIRED_KNOWN)
    keys = APIKey.objects.filter(lately, organization=entitlement.organization_id, revoked_at=None)
    return facts | {f"key:{key.digest}": key_record(key) for key in keys}


def gated_quotas(entitlement: Entitlement) -> dict[str, dict[str, Any]]:
    """Return the quotas that calls can be charged to. What others count comes by events alone."""
    others = Meter.objects.exclude(aggregation__in=Meter.GATED).filter(slug__in=entitlement.quotas)
    left_out = set(others.values_list("slug", flat=True))
    return {meter: quota for meter, quota in entitlement.quotas.items() if meter not in left_out}


def key_record(key: APIKey) -> str:
    """Return what the gate has to know of a key; of most, which are not restricted, only what it is."""
    record = f"{key.pk}|{key.mode}"
    if not (key.expires_at or key.rate_per_minute or key.scopes or key.allowed_networks):
        return record
    expires = str(to_microseconds(key.expires_at)) if key.expires_at else ""
    networks = ",".join(map(address_range, key.allowed_networks))
    return f"{record}|{expires}|{text(key.rate_per_minute)}|{' '.join(key.scopes)}|{networks}"


def find_facts(refs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what the copies of these organizations hold, by ref; who has none is left out. Raises RedisError."""
    pipeline = get_redis().pipeline(transaction=False)
    for ref in refs:
        pipeline.hgetall(names(ref).facts)
    return {ref: held for ref, held in zip(refs, pipeline.execute(), strict=True) if held}


def is_old(name: str, *, before: datetime) -> bool:
    return ":" in name and int(name.rpartition(":")[2]) < to_microseconds(before)


def text(limit: int | None) -> str:
    return "" if limit is None else str(limit)
