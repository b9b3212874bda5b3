"""What a verification says of a key beyond the gate's decision: its name, its scopes and the plan.

Copied to Redis under the rule of `apikeys.cache`: filled with the entitlement's row locked, dropped by what changes
it before that commits. It lasts an hour, since nothing is decided by it.
"""

import json
import logging
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import InterfaceError, OperationalError, transaction
from redis.exceptions import RedisError

from accounts.models import Organization
from apikeys.decision import KEY, Decision
from apikeys.models import APIKey
from billing.entitlements import lock_entitlement
from usage.lines import lines
from usage.outage import outage
from usage.redis_client import get_redis

logger = logging.getLogger(__name__)

IDLE = timedelta(hours=1)


class About(NamedTuple):
    """None stands for what cannot be said, with PostgreSQL out of reach."""

    name: str | None = None
    plan: str | None = None
    scopes: list[str] | None = None


def find_about(decision: Decision) -> About:
    """Return what there is to say of a decision's key, which is known."""
    held: Any = None
    if not outage.is_on:
        try:
            held = lines.call("HGET", name(decision.ref), decision.answer[KEY])
        except RedisError:
            outage.begin()
    if held:
        return About(*json.loads(held))
    try:
        with transaction.atomic():
            return read(decision)
    except (OperationalError, InterfaceError):
        logger.warning("PostgreSQL is unreachable: a verification names no plan")
        return About()


def read(decision: Decision) -> About:
    """Read PostgreSQL, and copy what it says. Part of a transaction, whose end lets go of the lock."""
    organization = Organization.objects.get(pk=decision.organization_id)
    plan = lock_entitlement(organization).plan.slug
    key = APIKey.objects.get(pk=decision.api_key_id, organization=organization)
    about = About(key.name, plan, key.scopes)
    if not outage.is_on:
        try:
            pipeline = get_redis().pipeline()
            pipeline.hset(name(organization.ref), str(key.pk), json.dumps(about))
            pipeline.pexpire(name(organization.ref), IDLE)
            pipeline.execute()
        except RedisError:
            outage.begin()
    return about


def drop(ref: str) -> None:
    """Make the next verification read PostgreSQL. Raises RedisError, which must undo the change."""
    get_redis().delete(name(ref))


def name(ref: str) -> str:
    return f"tollgate:{{{ref}}}:about"
