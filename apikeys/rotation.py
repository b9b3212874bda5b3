"""Rotation: a key is replaced by another, and for a time of chosen length both work and share one quota."""

import uuid
from datetime import datetime, timedelta

from django.db import transaction

from accounts import clock
from accounts.models import User
from apikeys.errors import InvalidRestriction, RotationRefused
from apikeys.models.keys import LONGEST_OVERLAP, APIKey, check_unknown
from apikeys.signals import keys_changed
from billing.entitlements import lock_entitlement

# What the pages offer. The API takes anything up to the longest.
OVERLAPS = {
    timedelta(): "None: revoke it now",
    timedelta(hours=1): "1 hour",
    timedelta(hours=24): "24 hours",
    timedelta(days=7): "7 days",
    LONGEST_OVERLAP: "30 days",
}


def rotate(
    key: APIKey, *, overlap: timedelta, user: User | None = None, key_id: uuid.UUID | None = None
) -> tuple[APIKey, str]:
    """Replace a key by a new one with the same name, mode and restrictions; return it, and its secret once.

    The old one works for `overlap` more, but never longer than it would have; with none it is revoked. A key
    with an end is replaced by one with as long a life, counted from now. It needs no room in the plan's limit.
    `key_id` is as for `issue`. Raises InvalidRestriction, KeyNotActive, RotationRefused, AlreadyIssued, and
    RedisError, in which case nothing has changed.
    """
    check_overlap(overlap)
    organization, now = key.organization, clock.now()
    with transaction.atomic():
        lock_entitlement(organization)
        check_unknown(key_id)
        old = APIKey.objects.select_related("replaced_by").get(pk=key.pk)
        if old.replaced_by:
            raise RotationRefused(f"“{old.name}” has been replaced already, by {old.replaced_by.prefix}…")
        key.get_active()
        if overlap and APIKey.objects.active().filter(replaced_by=old).exists():
            # Else the plan's limit would mean nothing: each rotation would add one that does not count.
            raise RotationRefused(
                f"The key that “{old.name}” replaced still works. Revoke that one first, or rotate with no overlap."
            )
        new, secret = APIKey.objects.mint(
            organization=organization,
            user=user,
            key_id=key_id,
            name=old.name,
            mode=old.mode,
            scopes=old.scopes,
            allowed_networks=old.allowed_networks,
            rate_per_minute=old.rate_per_minute,
            expires_at=now + (old.expires_at - old.created_at) if old.expires_at else None,
        )
        old.replaced_by, old.replaced_at = new, now
        if overlap:
            old.expires_at = min(now + overlap, old.expires_at or now + overlap)
        else:
            # Not an end of now: the servers' clocks may differ, and a revoked key is in no copy of the gate's.
            old.revoked_at, old.revoked_for = now, APIKey.RevokedFor.CUSTOMER
        old.save(update_fields=["replaced_by", "replaced_at", "expires_at", "revoked_at", "revoked_for"])
        keys_changed.send(sender=APIKey, organization=organization)
    key.refresh_from_db()
    return new, secret


def check_overlap(overlap: timedelta) -> None:
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        raise InvalidRestriction("overlap", f"Use an overlap of 0 to {LONGEST_OVERLAP.days} days.")


def extend(key: APIKey, *, span: timedelta) -> None:
    """Let a replaced key work for `span` from now. Raises as `change` does, and RotationRefused."""
    if key.replaced_by_id is None:
        raise RotationRefused(f"“{key.name}” has not been replaced: there is no overlap to extend.")
    end = clock.now() + span
    if key.is_active and key.expires_at and end <= key.expires_at:
        raise InvalidRestriction("overlap", "It works for longer than that already.")
    key.change(expires_at=end)


def longer_spans(key: APIKey) -> dict[timedelta, str]:
    """Return the spans by which a replaced key would work longer than it does, and what the page calls them."""
    end: datetime | None = key.expires_at
    if key.replaced_by_id is None or not key.is_active or end is None:
        return {}
    return {span: label for span, label in OVERLAPS.items() if clock.now() + span > end}
