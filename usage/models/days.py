"""The rollups summed up by local day, so that a month is read at the same cost however busy it was.

They are a copy that can be made anew at any time: see `usage.days`.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from accounts.models import Organization


class SummedDay(models.Model):
    """That an organization's day is summed up for a meter: its hours from `starts_at` up to `ends_at`.

    Today's is there up to some hours ago. `late_at` says since when the sums are out of date: a rollup of one of the
    hours has changed, and until they are made anew readers go by the rollups. So they do for want of totals, which
    days have none of that were summed up before totals were kept.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    meter = models.CharField(max_length=40)
    time_zone = models.CharField(max_length=64)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    late_at = models.DateTimeField(null=True, blank=True)
    # The database says no by itself: a process from before there were totals may still sum days up during an update.
    has_totals = models.BooleanField(db_default=False)

    class Meta:
        db_table = "usage_day"
        constraints = [
            models.UniqueConstraint(fields=["organization", "meter", "starts_at"], name="usageday_unique"),
            models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="usageday_order"),
        ]
        indexes = [models.Index(fields=["late_at"], condition=Q(late_at__isnull=False), name="usageday_late")]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter} from {self.starts_at:%Y-%m-%d %H:%M}"


class DaySum(models.Model):
    """As UsageRollup, of a day."""

    summed_day = models.ForeignKey(SummedDay, models.CASCADE, related_name="sums")
    period_start = models.DateTimeField()
    api_key_id = models.UUIDField()
    endpoint = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField()
    units = models.BigIntegerField()
    calls = models.BigIntegerField()
    response_ms = models.BigIntegerField()

    class Meta:
        db_table = "usage_day_sum"

    def __str__(self) -> str:
        return f"{self.summed_day_id}: {self.units}"


class DayLatency(models.Model):
    """The response times of a day's calls by endpoint, as `usage.latency` keeps them."""

    summed_day = models.ForeignKey(SummedDay, models.CASCADE, related_name="latencies")
    period_start = models.DateTimeField()
    endpoint = models.CharField(max_length=200)
    latency = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "usage_day_latency"

    def __str__(self) -> str:
        return f"{self.summed_day_id}: {self.endpoint}"


class DayTotal(models.Model):
    """What a day, or one hour of it, measures over all keys, endpoints and statuses: see `usage.analytics.Measures`.

    `hour` is None of the day. `latency` are the response times of all calls.
    """

    summed_day = models.ForeignKey(SummedDay, models.CASCADE, related_name="totals")
    hour = models.DateTimeField(null=True)
    period_start = models.DateTimeField()
    units = models.BigIntegerField()
    calls = models.BigIntegerField()
    sent_in = models.BigIntegerField()
    errors = models.BigIntegerField()
    response_ms = models.BigIntegerField()
    unknown = models.BigIntegerField()
    latency = ArrayField(models.BigIntegerField())

    class Meta:
        db_table = "usage_day_total"

    def __str__(self) -> str:
        return f"{self.summed_day_id}: {self.hour or 'all day'}: {self.units}"
