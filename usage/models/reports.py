"""What was told to Stripe."""

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Exists, OuterRef, Q
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Meter


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
    dated_at = models.DateTimeField(
        null=True, blank=True, help_text="The moment that Stripe was told, where it was told one."
    )
    correction = models.ForeignKey(
        "usage.Correction",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="reports",
        help_text="What bills these units instead. They are never sent again.",
    )

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
