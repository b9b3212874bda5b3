"""What was told to Stripe."""

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Coalesce, Greatest
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Meter, ThinEvent
from usage.models.proofs import Proof

PREFIX = "tollgate-"
# Reports of one organization and meter go to Stripe in this order.
ORDER = ("hour", "period_start", "created_at", "pk")


def is_due(*, now: datetime) -> Q:
    """What makes a report one to send: it is new, or its last try ended without an answer not too long ago."""
    State = MeterReport.State
    unanswered = Q(state=State.UNKNOWN, to_settle=False, first_sent_at__gt=now - MeterReport.RESEND_LIMIT)
    # There is no meter to report to before it is published: Stripe would refuse what came too early.
    return (Q(state=State.PENDING) | unanswered) & Q(has_customer()) & ~Q(meter__stripe_meter_id="")


def has_customer() -> Exists:
    """Whether Stripe knows a report's organization: else there is nobody to report for, and nobody waits for that."""
    return Exists(djstripe.Customer.objects.filter(subscriber=OuterRef("organization"), date_purged=None))


def has_one_in_flight() -> Exists:
    """Whether a report's organization and meter has one on its way at this moment, also one of a later hour."""
    own = {"organization": OuterRef("organization"), "meter": OuterRef("meter")}
    return Exists(MeterReport.objects.filter(**own, state=MeterReport.State.SENDING))


class MeterReportQuerySet(models.QuerySet["MeterReport"]):
    def due(self, *, now: datetime) -> "MeterReportQuerySet":
        """Reports to send: new ones, and ones whose last try ended without an answer not too long ago."""
        return self.filter(is_due(now=now))

    def in_line(self, *, now: datetime) -> "MeterReportQuerySet":
        """What may reach Stripe yet, and so goes before what is later of the same organization and meter.

        What waits for a decision or was rejected is not: it holds nothing up.
        """
        return self.filter(is_due(now=now) | Q(state=MeterReport.State.SENDING))

    def heads(self, *, now: datetime) -> "MeterReportQuerySet":
        """Of each organization and meter the report whose turn it is, where none of them is on its way."""
        first = MeterReport.objects.in_line(now=now).order_by("organization_id", "meter_id", *ORDER)
        each = first.distinct("organization_id", "meter_id").values("pk")
        return self.filter(~has_one_in_flight(), pk__in=each)

    def unsettled(self) -> "MeterReportQuerySet":
        """What may reach Stripe yet, whenever that may be, or of which nobody knows whether it has."""
        State = MeterReport.State
        waiting = Q(state=State.PENDING) & Q(has_customer())
        return self.filter(Q(state__in=[State.SENDING, State.UNKNOWN]) | waiting)

    def unanswered(self, *, now: datetime) -> "MeterReportQuerySet":
        """Reports that are never to be sent again blindly: whether Stripe has them is to be found out."""
        too_long = Q(first_sent_at__lte=now - MeterReport.RESEND_LIMIT)
        return self.filter(Q(to_settle=True) | too_long, state=MeterReport.State.UNKNOWN)

    def dated(self, start: datetime, end: datetime) -> "MeterReportQuerySet":
        """Reports whose units Stripe was told of as used from `start` up to and without `end`."""
        # Those from before the moment was stored went by their hour.
        moment = Coalesce("dated_at", Greatest("hour", "period_start"))
        return self.alias(moment=moment).filter(moment__gte=start, moment__lt=end)

    def too_old(self) -> "MeterReportQuerySet":
        """Reports that no meter takes any more: they are billed another way or not at all."""
        return self.filter(state=MeterReport.State.REJECTED, rejection_code=MeterReport.TOO_OLD)

    def unbilled(self) -> "MeterReportQuerySet":
        """Refused reports that no correction bills, but for those that somebody has seen and accepted since."""
        accepted = Proof.objects.filter(
            organization=OuterRef("organization"),
            meter=OuterRef("meter"),
            period_start=OuterRef("period_start"),
            status=Proof.Status.ACCEPTED,
            accepted_at__gte=Greatest(OuterRef("created_at"), OuterRef("claimed_at"), OuterRef("refused_at")),
        )
        return self.filter(~Exists(accepted), state=MeterReport.State.REJECTED, correction=None)

    def to_flush(self, organization: Organization, *, now: datetime) -> "MeterReportQuerySet":
        """What of an organization has not reached Stripe and still may: due, or on its way just now."""
        return self.filter(organization=organization).in_line(now=now)

    def release_abandoned(self, *, now: datetime) -> int:
        """Take reports back from senders that died; whether Stripe got them is not known."""
        abandoned = self.filter(state=MeterReport.State.SENDING, claimed_at__lt=now - MeterReport.LEASE)
        return abandoned.update(state=MeterReport.State.UNKNOWN)


class MeterReport(models.Model):
    """The outbox to Stripe's meters: some units of one organization and meter in one hour, reported once.

    `identifier` is what Stripe de-duplicates by, and is the same at every try, like the moment that the units are
    dated at. A row is made in the transaction that marks the same units as reported in the rollups, and is sent
    afterwards.
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
    # Stripe takes no usage that is older.
    AGE_LIMIT = timedelta(days=35)
    # Stripe's code for such usage, ours where it was not even asked.
    TOO_OLD = "timestamp_too_far_in_past"
    # Stripe's code for usage that by its clock is to come.
    AHEAD = "timestamp_in_future"

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
        null=True,
        blank=True,
        help_text="When the units were used, as Stripe was told: the same at every try.",
    )
    stripe_customer_id = models.CharField(
        "customer", max_length=255, blank=True, help_text="Whose units they are at Stripe."
    )
    to_settle = models.BooleanField(
        default=False, help_text="Not to be sent again: what Stripe counted will tell whether it arrived."
    )
    settled_as = models.CharField(
        max_length=300, blank=True, help_text="How it was decided whether a try without an answer arrived."
    )
    rejection_code = models.CharField(max_length=100, blank=True, help_text="Stripe's code for why not.")
    refused_at = models.DateTimeField(
        null=True, blank=True, help_text="When we learnt that Stripe took it and does not count it."
    )
    refused_in = models.ForeignKey(
        ThinEvent, models.SET_NULL, null=True, blank=True, related_name="+", help_text="Where Stripe said so."
    )
    resends = models.PositiveSmallIntegerField(
        default=0, help_text="How often it was sent anew after Stripe had taken and refused it."
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
                fields=["organization", "meter", "hour", "period_start", "created_at"],
                condition=~Q(state__in=["sent", "rejected"]),
                name="meterreport_in_line",
            ),
            # Of all there ever were few are rejected.
            models.Index(fields=["refused_in"], condition=Q(state="rejected"), name="meterreport_rejected"),
            models.Index(fields=["organization", "meter", "period_start"], name="meterreport_period"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier}: {self.units}"

    @property
    def identifier(self) -> str:
        # Stripe remembers what it took and refused: under the same identifier it would pass the units over.
        return f"{PREFIX}{self.id}" + (f".{self.resends}" if self.resends else "")

    @staticmethod
    def parse_identifier(identifier: str) -> tuple[uuid.UUID, int] | None:
        """Return whose report an identifier is and its number of resends; None for one that is not ours."""
        row, _, resends = identifier.removeprefix(PREFIX).partition(".")
        try:
            parsed = uuid.UUID(row), int(resends or 0)
        except ValueError:
            return None
        return parsed if identifier.startswith(PREFIX) else None

    @property
    def timestamp(self) -> datetime:
        """The moment to report the units at: inside both the hour and the period they were charged to.

        Stripe bills by this time. With none, the last hour of a period would land on the next invoice.
        Where a change of plan cut the hour in two it is later: see `usage.dating.moment_of`.
        """
        return max(self.hour, self.period_start)

    @property
    def moment(self) -> datetime:
        """The moment that Stripe was told, or would be as far as the row knows."""
        return self.dated_at or self.timestamp

    @property
    def is_retry(self) -> bool:
        """Whether there was a try before this one of which nobody knows whether it arrived."""
        return self.first_sent_at != self.claimed_at

    @property
    def has_no_answer(self) -> bool:
        """Whether Stripe said nothing at the last try. A refusal is an answer, also of what is still to be settled."""
        return self.state == self.State.UNKNOWN and not self.to_settle
