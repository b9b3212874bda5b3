"""How far a rotation has come: who still calls with the old key."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, Sum

from accounts import clock
from apikeys.models import APIKey
from apikeys.sightings import Sighting, find_sightings, last_use
from usage.models import UsageRollup

HOUR = timedelta(hours=1)
# A key that nobody has called with is called safe to revoke once it has been so for that long.
QUIET_FOR = HOUR


@dataclass(frozen=True, slots=True)
class Handover:
    """What is known of a replaced key.

    `sightings` are the addresses that it was used from since its rotation. `percent` is its part of the calls
    with it and its successor since `since`, None where there were none or that is still to come. Not `is_known`,
    Redis was out of reach: what the ledger knows may be minutes old, and addresses are missing.
    """

    old: APIKey
    last_call: datetime | None
    sightings: list[Sighting]
    percent: float | None
    since: datetime
    is_known: bool

    @property
    def is_early(self) -> bool:
        """Whether no hour has begun yet of which all calls came after the rotation."""
        return clock.now() < self.since

    @property
    def is_quiet(self) -> bool:
        """Whether it is sure that nobody has called with it since the rotation."""
        return self.is_known and not (
            self.last_call and self.old.replaced_at and self.last_call > self.old.replaced_at
        )

    @property
    def is_safe(self) -> bool:
        """Whether it has been quiet for long enough to say that it may be revoked."""
        replaced_at = self.old.replaced_at
        return self.is_quiet and replaced_at is not None and clock.now() - replaced_at >= QUIET_FOR


def look_at(old: APIKey) -> Handover:
    """Return what is known of a replaced key. Raises ValueError for one that has not been replaced."""
    if old.replaced_at is None:
        raise ValueError(f"{old} has not been replaced.")
    found = find_sightings([old])
    since = first_hour(old.replaced_at)
    return Handover(
        old=old,
        last_call=last_use(old, found),
        sightings=[each for each in (found or {}).get(old.pk, []) if each.at > old.replaced_at],
        percent=percent_of_calls(old, since=since),
        since=since,
        is_known=found is not None,
    )


def first_hour(replaced_at: datetime) -> datetime:
    """Return from which hour on calls are counted.

    Rollups are by the hour, and that of the rotation holds calls of before it, which are no part of what is asked.
    """
    hour = replaced_at.replace(minute=0, second=0, microsecond=0)
    return hour if hour == replaced_at else hour + HOUR


def percent_of_calls(old: APIKey, *, since: datetime) -> float | None:
    ids = [key_id for key_id in (old.pk, old.replaced_by_id) if key_id]
    rollups = UsageRollup.objects.filter(
        organization=old.organization_id, api_key_id__in=ids, hour__gte=since
    )
    sums = rollups.aggregate(all=Sum("calls"), old=Sum("calls", filter=Q(api_key_id=old.pk)))
    return 100 * (sums["old"] or 0) / sums["all"] if sums["all"] else None
