"""How much was used: events, their hourly sums, and what was told to Stripe."""

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Sum
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Entitlement, Meter


class UsageEvent(models.Model):
    """One billable response: a row of the ledger, which is never changed.

    The table is partitioned by month of `occurred_at` (see `usage.partitions`). `id` is a UUIDv7 given
    when the call was served; with the time it makes the primary key, so that an event delivered twice is
    stored once.
    """

    pk = models.CompositePrimaryKey("id", "occurred_at")
    id = models.UUIDField()
    occurred_at = models.DateTimeField()
    # Plain columns, not foreign keys: a ledger outlives what it names, and a COPY checks no other table.
    organization_id = models.UUIDField()
    api_key_id = models.UUIDField()
    meter = models.CharField(max_length=40)
    units = models.BigIntegerField()
    period_start = models.DateTimeField(help_text="Start of the quota period that the units were charged to.")
    endpoint = models.CharField(max_length=200)
    method = models.CharField(max_length=10)
    status = models.PositiveSmallIntegerField()
    response_ms = models.PositiveIntegerField()

    class Meta:
        db_table = "usage_event"

    def __str__(self) -> str:
        return str(self.id)


class UsageRollupQuerySet(models.QuerySet["UsageRollup"]):
    def in_period(
        self, *, organization_id: uuid.UUID, meter: str, period_start: datetime
    ) -> "UsageRollupQuerySet":
        return self.filter(organization_id=organization_id, meter=meter, period_start=period_start)

    def counting_for(self, entitlement: Entitlement, meter: str) -> "UsageRollupQuerySet":
        """Rollups whose units count against the current quota: the period's, and those it carries on."""
        starts = [entitlement.period_start, *map(datetime.fromisoformat, entitlement.carried_from)]
        return self.filter(organization_id=entitlement.organization_id, meter=meter, period_start__in=starts)

    def units(self) -> int:
        total: int | None = self.aggregate(total=Sum("units"))["total"]
        return total or 0

    def unreported(self) -> "UsageRollupQuerySet":
        return self.filter(units__gt=F("reported_units"))


class UsageRollup(models.Model):
    """The units of one organization, meter, key and endpoint in one hour of one quota period.

    An hour in which a period ends has a row on either side of the boundary.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="rollups")
    meter = models.CharField(max_length=40)
    api_key_id = models.UUIDField()
    endpoint = models.CharField(max_length=200)
    hour = models.DateTimeField()
    period_start = models.DateTimeField()
    units = models.BigIntegerField(default=0)
    calls = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0, help_text="Calls answered with status 400 to 499.")
    response_ms = models.BigIntegerField(default=0, help_text="Summed over the calls.")
    reported_units = models.BigIntegerField(
        default=0, help_text="Of `units`, what meter reports have taken up."
    )

    objects = UsageRollupQuerySet.as_manager()

    class Meta:
        db_table = "usage_rollup"
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "meter", "hour", "period_start", "api_key_id", "endpoint"],
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
                condition=Q(units__gt=F("reported_units")),
                name="usagerollup_unreported",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter} {self.hour:%Y-%m-%d %H}h: {self.units}"


class MeterReportQuerySet(models.QuerySet["MeterReport"]):
    def due(self, *, now: datetime) -> "MeterReportQuerySet":
        """Reports to send: new ones, and ones whose last try ended without an answer not too long ago."""
        State = MeterReport.State
        unanswered = Q(state=State.UNKNOWN, first_sent_at__gt=now - MeterReport.RESEND_LIMIT)
        # Without a customer at Stripe there is nobody to report for yet, and nobody else need wait for that.
        known = Exists(
            djstripe.Customer.objects.filter(subscriber=OuterRef("organization"), date_purged=None)
        )
        return self.filter(known, Q(state=State.PENDING) | unanswered)

    def to_flush(self, organization: Organization, *, now: datetime) -> "MeterReportQuerySet":
        """What of an organization has not reached Stripe and still may: due, or on its way just now."""
        sending = Q(state=MeterReport.State.SENDING)
        return self.filter(organization=organization).filter(
            Q(pk__in=self.due(now=now).values("pk")) | sending
        )

    def release_abandoned(self, *, now: datetime) -> int:
        """Take reports back from senders that died; whether Stripe got them is not known."""
        abandoned = self.filter(state=MeterReport.State.SENDING, claimed_at__lt=now - MeterReport.LEASE)
        return abandoned.update(state=MeterReport.State.UNKNOWN)


class MeterReport(models.Model):
    """The outbox to Stripe's meters: some units of one organization and meter in one hour, reported once.

    `identifier` is what Stripe de-duplicates by, and never changes. A row is made in the transaction that
    marks the same units as reported in the rollups, and is sent afterwards.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        SENDING = "sending", "Sending"
        SENT = "sent", "Sent"
        UNKNOWN = "unknown", "Unknown: Stripe gave no answer"
        REJECTED = "rejected", "Rejected by Stripe"

    # How long a sender may take before its claim counts as abandoned: more than all retries together.
    LEASE = timedelta(minutes=3)
    # Stripe remembers an identifier for at least 24 hours. Past this age a report without an answer is
    # never sent again blindly.
    RESEND_LIMIT = timedelta(hours=20)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="meter_reports")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+", to_field="slug", db_column="meter")
    hour = models.DateTimeField()
    period_start = models.DateTimeField()
    units = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    created_at = models.DateTimeField(default=clock.now)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)

    objects = MeterReportQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(units__gt=0), name="meterreport_units_positive"),
            # Stripe takes one call at a time for a customer and meter; a second claim fails here.
            models.UniqueConstraint(
                fields=["organization", "meter"],
                condition=Q(state="sending"),
                name="meterreport_one_in_flight",
            ),
        ]
        indexes = [
            models.Index(
                fields=["hour", "created_at"],
                condition=~Q(state__in=["sent", "rejected"]),
                name="meterreport_due",
            ),
            models.Index(fields=["organization", "meter", "period_start"], name="meterreport_period"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier}: {self.units}"

    @property
    def identifier(self) -> str:
        return f"tollgate-{self.id}"

    @property
    def timestamp(self) -> datetime:
        """The moment to report the units at: inside both the hour and the period they were charged to.

        Stripe bills by this time. With none, the last hour of a period would land on the next invoice.
        Where a change of plan cut the hour in two it is later: see `usage.reports.moment_of`.
        """
        return max(self.hour, self.period_start)
