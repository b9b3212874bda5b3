"""Where in a period two counts differ: hour by hour."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, Sum
from django.db.models.functions import TruncHour

from usage.models import MeterReport, UsageEvent, UsageRollup
from usage.proof.judging import Key

# What is alike in two events that are one: all but the id.
ALIKE = ("occurred_at", "api_key_id", "units", "endpoint", "method", "status", "response_ms")


class HourGap(NamedTuple):
    """An hour in which one count, as of the ledger or of the reports, is not what the hourly sums have."""

    hour: datetime
    counted: int
    summed: int

    @property
    def units(self) -> int:
        return self.counted - self.summed


class Twins(NamedTuple):
    """Events of the ledger that are alike in everything but the id."""

    occurred_at: datetime
    units: int
    ids: list[UUID]


def of(key: Key) -> dict[str, Any]:
    return {"organization_id": key.organization_id, "meter": key.meter, "period_start": key.period_start}


def ledger_gaps(key: Key) -> list[HourGap]:
    """Return the hours in which the ledger has more or fewer units than its hourly sums, the oldest first."""
    events = UsageEvent.objects.filter(**of(key), occurred_at__gte=key.period_start)
    by_hour = events.order_by().annotate(hour_of=TruncHour("occurred_at", tzinfo=UTC)).values_list("hour_of")
    return gaps(dict(by_hour.annotate(n=Sum("units"))), summed(key, "units"))


def report_gaps(key: Key) -> list[HourGap]:
    """Return the hours in which the reports hold more or fewer units than the hourly sums have as reported."""
    reports = MeterReport.objects.filter(**of(key)).order_by()
    return gaps(dict(reports.values_list("hour").annotate(n=Sum("units"))), summed(key, "reported_units"))


def summed(key: Key, column: str) -> dict[datetime, int]:
    rollups = UsageRollup.objects.filter(**of(key)).order_by()
    return dict(rollups.values_list("hour").annotate(n=Sum(column)))


def gaps(counted: dict[datetime, int], summed: dict[datetime, int]) -> list[HourGap]:
    hours = sorted(counted.keys() | summed.keys())
    found = [HourGap(hour, int(counted.get(hour, 0)), int(summed.get(hour, 0))) for hour in hours]
    return [each for each in found if each.units]


def twins(key: Key, hour: datetime) -> list[Twins]:
    """Return the events of an hour that are there more than once, but for the id."""
    events = UsageEvent.objects.filter(
        **of(key), occurred_at__gte=hour, occurred_at__lt=hour + timedelta(hours=1)
    )
    alike = events.order_by().values(*ALIKE).annotate(n=Count("id")).filter(n__gt=1)
    found = []
    for each in alike:
        same = {name: each[name] for name in ALIKE}
        ids = list(events.filter(**same).order_by("id").values_list("id", flat=True))
        found.append(Twins(each["occurred_at"], each["units"], ids))
    return found
