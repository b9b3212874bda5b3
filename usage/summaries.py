"""What the pages and the API show of usage. Everything is read from the rollups, never from the ledger."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Q, Sum
from django.db.models.functions import Coalesce, TruncDate

from accounts.models import Organization
from billing.models import Entitlement, Meter, PlanQuota
from usage.models import UsageRollup

CLIENT_ERROR = Q(status__range=(400, 499))


@dataclass(frozen=True, slots=True)
class MeterUsage:
    """One meter's units in the current period. `included`, `remaining` and `percent` are None for unlimited.

    `is_billed` says whether units beyond the included ones are sold; `stops_at` is then the last one that the
    customer's own spend cap allows, None without one.
    """

    name: str
    unit: str
    used: int
    included: int | None
    period_end: datetime
    is_billed: bool = False
    stops_at: int | None = None

    @property
    def is_stopped(self) -> bool:
        return self.stops_at is not None and self.used >= self.stops_at

    @property
    def remaining(self) -> int | None:
        return None if self.included is None else max(self.included - self.used, 0)

    @property
    def percent(self) -> int | None:
        """Whole percent used, rounded down, at most 100: it says 100 only when nothing is left."""
        return None if self.included is None else min(self.used * 100 // self.included, 100)


def meter_usage(entitlement: Entitlement, meter: Meter) -> MeterUsage:
    used = UsageRollup.objects.counting_for(entitlement, meter.slug).units()
    quota = entitlement.quotas[meter.slug]
    return MeterUsage(
        name=meter.name,
        unit=meter.unit,
        used=used,
        included=entitlement.find_quota(meter.slug),
        period_end=entitlement.period_end,
        is_billed=quota["overage"] == PlanQuota.Overage.BILL,
        stops_at=quota.get("spend_cap"),
    )


@dataclass(frozen=True, slots=True)
class HourUsage:
    hour: datetime
    units: int


def recent_hours(
    organization: Organization, *, meter: str, now: datetime, hours: int = 24
) -> list[HourUsage]:
    """Return the hours of the last day in which something was used, newest first."""
    rows = (
        UsageRollup.objects.filter(
            organization=organization, meter=meter, hour__gt=now - timedelta(hours=hours)
        )
        .values("hour")
        .annotate(total=Sum("units"))
        .order_by("-hour")
    )
    return [HourUsage(row["hour"], row["total"]) for row in rows]


@dataclass(frozen=True, slots=True)
class DayUsage:
    """A UTC day. `bar` is its height beside the busiest day's, in whole percent."""

    day: date
    units: int
    calls: int
    errors: int
    bar: int


def period_days(entitlement: Entitlement, *, meter: str, now: datetime) -> list[DayUsage]:
    """Return every UTC day whose use counts in the current period, up to today, oldest first."""
    rollups = UsageRollup.objects.counting_for(entitlement, meter)
    sums = rollups.annotate(day=TruncDate("hour", tzinfo=UTC)).values("day")
    errors = Coalesce(Sum("calls", filter=CLIENT_ERROR), 0)
    used = {row["day"]: row for row in sums.annotate(u=Sum("units"), c=Sum("calls"), e=errors)}
    top = max((row["u"] for row in used.values()), default=0)
    starts = [entitlement.period_start, *map(datetime.fromisoformat, entitlement.carried_from)]
    first = min(starts).astimezone(UTC).date()
    last = max(min(now, entitlement.period_end - timedelta(microseconds=1)).astimezone(UTC).date(), first)
    days = []
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        row = used.get(day, {"u": 0, "c": 0, "e": 0})
        days.append(DayUsage(day, row["u"], row["c"], row["e"], row["u"] * 100 // top if top else 0))
    return days
