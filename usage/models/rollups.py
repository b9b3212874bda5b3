"""The ledger's hourly sums."""

import uuid
from datetime import datetime

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import ExpressionWrapper, F, Q, Sum

from accounts.models import Organization
from billing.models import Entitlement, Meter


class UsageRollupQuerySet(models.QuerySet["UsageRollup"]):
    def in_period(
        self, *, organization_id: uuid.UUID, meter: str, period_start: datetime
    ) -> "UsageRollupQuerySet":
        return self.filter(organization_id=organization_id, meter=meter, period_start=period_start)

    def counting_for(self, entitlement: Entitlement, meter: str) -> "UsageRollupQuerySet":
        """Rollups whose units count against the current quota: the period's, and those it carries on."""
        return self.filter(
            organization_id=entitlement.organization_id,
            meter=meter,
            period_start__in=entitlement.counted_starts,
        )

    def units(self) -> int:
        total: int | None = self.aggregate(total=Sum("units"))["total"]
        return total or 0

    def in_order(self) -> "UsageRollupQuerySet":
        """In the order in which the drain locks rows, and whoever else does: none then waits for another in a ring."""
        return self.order_by(
            "organization_id", "meter", "hour", "period_start", "api_key_id", "endpoint", "status"
        )

    def unreported(self) -> "UsageRollupQuerySet":
        return self.filter(is_unreported=True)

    def to_report(self) -> "UsageRollupQuerySet":
        """What no report holds yet, but for what a meter counted that there is no more: nobody can bill it."""
        return self.unreported().filter(meter__in=Meter.objects.values("slug"))


class UsageRollup(models.Model):
    """The units of one organization, meter, key, endpoint and status in one hour of one quota period.

    An hour in which a period ends has a row on either side of the boundary. `status` is the answer's, 0 for events
    that came in by themselves and for calls that were charged before they were answered. `latency` is a histogram of
    the response times: see `usage.latency`.
    """

    # No index of its own: the unique one begins with it, and every insert would pay for both.
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="rollups", db_index=False)
    meter = models.CharField(max_length=40)
    api_key_id = models.UUIDField()
    endpoint = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField(default=0)
    hour = models.DateTimeField()
    period_start = models.DateTimeField()
    units = models.BigIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    response_ms = models.BigIntegerField(default=0, help_text="Summed over the calls.")
    latency = ArrayField(models.BigIntegerField(), default=list, help_text="Calls by response time.")
    reported_units = models.BigIntegerField(
        default=0, help_text="Of `units`, what meter reports have taken up."
    )

    # A column of its own for the index below. With the two it is made of in the index's condition, PostgreSQL would
    # write every index anew whenever a batch adds to a row.
    is_unreported = models.GeneratedField(
        expression=ExpressionWrapper(Q(units__gt=F("reported_units")), output_field=models.BooleanField()),
        output_field=models.BooleanField(),
        db_persist=True,
    )

    objects = UsageRollupQuerySet.as_manager()

    class Meta:
        db_table = "usage_rollup"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "meter", "hour", "period_start", "api_key_id", "endpoint", "status"],
                name="usagerollup_unique",
            ),
            models.CheckConstraint(
                condition=Q(reported_units__gte=0) & Q(reported_units__lte=F("units")),
                name="usagerollup_reported",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "meter", "period_start"], name="usagerollup_period"),
            models.Index(
                fields=["organization"],
                condition=Q(is_unreported=True),
                name="usagerollup_unreported",
            ),
            # Small and cheap, for what asks for all organizations' recent hours: rows come in order of time.
            BrinIndex(fields=["hour"], pages_per_range=16, autosummarize=True, name="usagerollup_hour"),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter} {self.hour:%Y-%m-%d %H}h: {self.units}"
