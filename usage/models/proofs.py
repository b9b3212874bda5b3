"""The proof that what was used is what is billed."""

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Case, IntegerField, Q, Value, When

from accounts.models import Organization
from billing.models import Meter


class ProofQuerySet(models.QuerySet["Proof"]):
    def worst_first(self) -> "ProofQuerySet":
        order = [Proof.Status.DIFFERS, Proof.Status.WAITING, Proof.Status.RUNNING]
        ranks = [When(status=status, then=Value(rank)) for rank, status in enumerate(order)]
        rank = Case(*ranks, default=Value(len(order)), output_field=IntegerField())
        return self.annotate(rank=rank).order_by("rank", "-period_start", "pk")


class Proof(models.Model):
    """What was counted of one organization and meter in one quota period, in five places, and whether it agrees.

    `stripe` and `invoiced` are counted as the reports are: units that a change of plan had Stripe date into the
    period after are counted in their own. `stripe` is None where Stripe knows no such customer or meter, `invoiced`
    where none of it is due on an invoice so far. `causes` has, for each difference and for what is on its way, its
    code, the units and a sentence for staff; one that is `settled` explains a difference that has been made good.
    A difference that somebody accepted is no more looked after while all figures stay what they were then.
    """

    class Status(models.TextChoices):
        PROVEN = "proven", "Proven"
        RUNNING = "running", "Running"
        WAITING = "waiting", "Waiting"
        DIFFERS = "differs", "Differs"
        ACCEPTED = "accepted", "Accepted"

    # What somebody says yes to who accepts a difference; where one of them changes it differs again.
    FIGURES = (
        *("ledger", "rollups", "reported", "stripe", "invoiced", "corrected"),
        *("unreported", "waiting", "unknown", "rejected", "to_invoice", "correcting"),
    )
    # Causes that are no difference: what they name will be there in a while.
    ON_ITS_WAY = frozenset(
        {"unreported", "waiting", "unknown", "uncounted", "to_invoice", "correcting", "ahead"}
    )

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="proofs")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+", to_field="slug", db_column="meter")
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    ledger = models.BigIntegerField(null=True, blank=True)
    ledger_is_kept = models.BooleanField(
        default=True, help_text="No: its months were dropped, and the figure is that of before."
    )
    rollups = models.BigIntegerField(default=0, help_text="The hourly sums.")
    reported = models.BigIntegerField(default=0, help_text="In reports that Stripe took.")
    stripe = models.BigIntegerField(null=True, blank=True, verbose_name="Stripe")
    invoiced = models.BigIntegerField(null=True, blank=True)
    unreported = models.BigIntegerField(default=0, help_text="In the hourly sums and in no report yet.")
    waiting = models.BigIntegerField(default=0, help_text="In reports that are to be sent.")
    unknown = models.BigIntegerField(default=0, help_text="In reports that got no answer.")
    rejected = models.BigIntegerField(default=0, help_text="In reports that Stripe refused.")
    to_invoice = models.BigIntegerField(default=0, help_text="Reported, for an invoice that is to come.")
    corrected = models.BigIntegerField(default=0, help_text="On later invoices, as corrections.")
    correcting = models.BigIntegerField(default=0, help_text="In corrections that are on their way.")
    status = models.CharField(max_length=10, choices=Status)
    causes = models.JSONField(default=list, blank=True)
    checked_at = models.DateTimeField()
    accepted_figures = models.JSONField(null=True, blank=True, help_text="What was accepted as it is.")
    accepted_reason = models.CharField(max_length=500, blank=True)
    accepted_by = models.CharField(max_length=254, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)

    objects = ProofQuerySet.as_manager()

    class Meta:
        verbose_name = "proof"
        ordering = ["-period_start", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "meter", "period_start"], name="proof_unique"),
            models.CheckConstraint(
                condition=~Q(status="accepted")
                | Q(accepted_figures__isnull=False, accepted_at__isnull=False)
                & ~Q(accepted_reason="")
                & ~Q(accepted_by=""),
                name="proof_accepted_by_somebody",
            ),
        ]
        indexes = [
            models.Index(fields=["status", "-period_start"], name="proof_status"),
            models.Index(fields=["organization", "-period_start"], name="proof_organization"),
        ]
        permissions = [
            ("repair", "Can check proofs anew and repair what differs"),
            ("accept", "Can accept differences that nothing can mend"),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter_id} {self.period_start:%Y-%m-%d}: {self.status}"

    @property
    def on_its_way(self) -> int:
        """Units that have not reached Stripe for certain, and still may."""
        return self.unreported + self.waiting + self.unknown

    @property
    def differences(self) -> list[dict[str, Any]]:
        """The causes of what does not agree, has not been made good, and was not accepted."""
        return [] if self.status == self.Status.ACCEPTED else self.all_differences

    @property
    def snapshot(self) -> dict[str, Any]:
        """The figures and what differs, as they are accepted."""
        figures = {name: getattr(self, name) for name in self.FIGURES}
        return figures | {"differences": [[c["code"], c["units"]] for c in self.all_differences]}

    @property
    def all_differences(self) -> list[dict[str, Any]]:
        """The causes of what does not agree and has not been made good, accepted or not."""
        return [c for c in self.causes if not c["settled"] and c["code"] not in self.ON_ITS_WAY]

    def differs_by(self, *codes: str) -> bool:
        return any(cause["code"] in codes for cause in self.differences)

    def is_open(self, now: datetime) -> bool:
        return now < self.period_end
