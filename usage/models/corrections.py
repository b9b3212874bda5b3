"""What is put on a later invoice because it came too late for its own, or taken off because it was billed twice."""

import uuid

from django.db import models
from django.db.models import F, Q

from accounts import clock
from accounts.models import Organization
from billing.models import Meter
from billing.templatetags.money import money


class CorrectionQuerySet(models.QuerySet["Correction"]):
    def under_way(self) -> "CorrectionQuerySet":
        """Of which nobody knows yet whether they are on an invoice."""
        State = Correction.State
        return self.filter(state__in=[State.PENDING, State.SENDING, State.UNKNOWN])

    def settled(self) -> "CorrectionQuerySet":
        """Those that Stripe has, and those that cost nothing."""
        return self.filter(state__in=[Correction.State.SENT, Correction.State.FREE])


class Correction(models.Model):
    """Units of a closed period that its invoice lacks, or has too many of, and what they cost.

    Each says where it brings the period's corrected units: `total` is the sum of `units` up to it, and `number`
    counts them. Two processes that find the same units missing both make the same number, and one fails.
    The units are those of Stripe's item period `billed_from` to `billed_to`, at the price `price_id` there.
    """

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        SENDING = "sending", "Sending"
        SENT = "sent", "On the next invoice"
        FREE = "free", "Settled: costs nothing"
        UNKNOWN = "unknown", "Unknown: Stripe gave no answer"
        FAILED = "failed", "Failed: on no invoice"

    METADATA_KEY = "tollgate_correction"
    METADATA_ROUND = "tollgate_correction_round"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="corrections")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+", to_field="slug", db_column="meter")
    period_start = models.DateTimeField()
    number = models.PositiveIntegerField(help_text="The how-manieth of its period.")
    units = models.BigIntegerField(help_text="Below 0: units that were billed and should not have been.")
    total = models.BigIntegerField(help_text="The period's corrected units with this one.")
    amount = models.BigIntegerField(help_text="In the currency's minor unit, below 0 for a credit.")
    is_net = models.BooleanField(
        default=True,
        help_text="Its period's discounts are off already. No: made before, and discounted anew.",
    )
    currency = models.CharField(max_length=3, blank=True)
    reason = models.CharField(max_length=200)
    description = models.CharField(max_length=300, blank=True, help_text="What the invoice says.")
    billed_from = models.DateTimeField(null=True, blank=True)
    billed_to = models.DateTimeField(null=True, blank=True)
    price_id = models.CharField(max_length=255, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    stripe_customer_id = models.CharField(
        max_length=255, blank=True, help_text="Stripe's id of whose invoice it was put on, or may have been."
    )
    invoice_item = models.CharField(max_length=255, blank=True, help_text="Stripe's id of the invoice item.")
    own_invoice = models.CharField(
        max_length=255,
        blank=True,
        help_text="Of a customer without a subscription: Stripe's id of the invoice that has the item.",
    )
    round = models.PositiveIntegerField(
        default=0,
        help_text="How often what Stripe had of it came to nothing: what is made anew is told apart by it.",
    )
    asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When Stripe was last asked what became of the item."
    )
    billed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the item was known to be on a paid invoice."
    )
    created_at = models.DateTimeField(default=clock.now)
    claimed_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    made_by = models.CharField(max_length=254, blank=True, help_text="Who said yes, where somebody had to.")

    objects = CorrectionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=~Q(units=0), name="correction_units_not_zero"),
            models.CheckConstraint(
                condition=Q(units__gt=0, amount__gte=0) | Q(units__lt=0, amount__lte=0),
                name="correction_amount_follows_units",
            ),
            models.CheckConstraint(
                condition=~Q(number=1) | Q(total=F("units")), name="correction_total_begins_with_units"
            ),
            models.UniqueConstraint(
                fields=["organization", "meter", "period_start", "number"], name="correction_once"
            ),
            # Only where the one before is settled is it known what is still missing.
            models.UniqueConstraint(
                fields=["organization", "meter", "period_start"],
                condition=Q(state__in=["pending", "sending", "unknown"]),
                name="correction_one_under_way",
            ),
        ]
        permissions = [("make_correction", "Can put corrections of usage on customers' invoices")]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter_id} {self.period_start:%Y-%m-%d}: {self.units:+}"

    @property
    def metadata(self) -> dict[str, str]:
        """By which it is found at Stripe. An item of an earlier round is not looked for: that one is gone."""
        later = {self.METADATA_ROUND: str(self.round)} if self.round else {}
        return {self.METADATA_KEY: str(self.pk), **later}

    @property
    def idempotency_key(self) -> str:
        return f"tollgate-correction-{self.pk}" + (f"-{self.round}" if self.round else "")

    @property
    def amount_said(self) -> str:
        """What it charges or, below 0, gives back; as people read it."""
        return money(self.amount, self.currency) if self.amount else "no charge"
