"""What the pages and the API show of the period so far. Everything is read from sums, never from the ledger."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum

from accounts.models import Organization
from billing.models import Entitlement, Meter, PlanQuota
from billing.overage import Overage, find_charging, find_overage
from usage.forecast import Forecast, Pace, pace, paces, project
from usage.models import UsageRollup
from usage.quota_periods import current_period


@dataclass(frozen=True, slots=True)
class MeterUsage:
    """One meter's units in the current period. `included`, `remaining` and `percent` are None for unlimited.

    `goes_on` says whether units beyond the included ones are let through, `is_billed` whether they cost anything: in a
    trial, or at a price of before, they may not. `stops_at` is the last one that the customer's own spend cap allows,
    None without one. `overage` is what units have come to, None where nothing has. `rate_days` is how many whole days
    the forecast's rate is of: 0 where it is that of the period so far, None where there is no rate.
    """

    slug: str
    name: str
    unit: str
    used: int
    included: int | None
    period_start: datetime
    period_end: datetime
    forecast: Forecast
    rate_days: int | None = 0
    goes_on: bool = False
    is_billed: bool = False
    stops_at: int | None = None
    overage: Overage | None = None

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


def meter_usages(entitlement: Entitlement, *, now: datetime) -> list[MeterUsage]:
    """Return the period so far of every meter that the plan knows, by slug."""
    meters = list(Meter.objects.filter(slug__in=entitlement.quotas))
    rates = paces(entitlement, meters, now=now)
    return [summarize(entitlement, meter, rates[meter.slug], now=now) for meter in meters]


def meter_usage(entitlement: Entitlement, meter: Meter, *, now: datetime) -> MeterUsage:
    return summarize(entitlement, meter, pace(entitlement, meter, now=now), now=now)


def summarize(entitlement: Entitlement, meter: Meter, rate: Pace, *, now: datetime) -> MeterUsage:
    quota, charging = entitlement.quotas[meter.slug], find_charging(entitlement, meter)
    goes_on = quota["overage"] == PlanQuota.Overage.BILL
    since = current_period(entitlement).first
    return MeterUsage(
        slug=meter.slug,
        name=meter.name,
        unit=meter.unit,
        used=rate.used,
        included=entitlement.find_quota(meter.slug),
        period_start=entitlement.period_start,
        period_end=entitlement.period_end,
        goes_on=goes_on,
        is_billed=goes_on and charging is not None,
        stops_at=quota.get("spend_cap"),
        rate_days=rate.whole_days,
        forecast=project(rate, entitlement, meter.slug, now=now),
        overage=find_overage(entitlement, meter, charging, used=rate.used, since=since),
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
