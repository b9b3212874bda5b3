"""What was measured of quotas' counters."""

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from accounts.models import Organization


class CounterReadingQuerySet(models.QuerySet["CounterReading"]):
    def open(self) -> "CounterReadingQuerySet":
        """Those that are being measured: read once, and to be compared."""
        return self.exclude(marked_at=None)

    def unmended(self, *, now: datetime) -> "CounterReadingQuerySet":
        """Those whose difference could not be mended for so long that somebody should look."""
        return self.filter(differs_since__lt=now - CounterReading.SHOULD_BE_MENDED_AFTER)

    def mended_lately(self, *, now: datetime) -> "CounterReadingQuerySet":
        return self.filter(mended_at__gt=now - timedelta(days=1))


class CounterReading(models.Model):
    """How far a quota's counter in Redis was from the ledger, and what was done about it: see `apikeys.drift`.

    A counter that is too high refuses too early; one too low lets through more than the quota. There is a row
    for each counter whose figures ever differed; most of them do because a call was on its way.
    """

    SHOULD_BE_MENDED_AFTER = timedelta(hours=6)

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="counter_readings")
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    counter = models.BigIntegerField(help_text="Units that it stood at when it was last read.")
    ledger = models.BigIntegerField(help_text="Units that the ledger had then.")
    differs_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the two were first seen to differ. Empty: they have been compared.",
    )
    marked_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="By Redis's clock, when it was read. Empty: nothing is being measured.",
    )
    checked_at = models.DateTimeField(null=True, blank=True, help_text="When it was last compared.")
    drift = models.BigIntegerField(
        default=0, help_text="Units by which it was too high, without calls on their way. Below 0: too low."
    )
    mended_units = models.BigIntegerField(default=0, help_text="Taken off in all. Below 0: added.")
    mended_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True, help_text="Why it is not compared yet.")

    objects = CounterReadingQuerySet.as_manager()

    class Meta:
        ordering = ["-checked_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "meter", "period_start"], name="counterreading_unique"
            )
        ]
        indexes = [
            models.Index(
                fields=["marked_at"], condition=Q(marked_at__isnull=False), name="counterreading_open"
            ),
            models.Index(
                fields=["differs_since"],
                condition=Q(differs_since__isnull=False),
                name="counterreading_differing",
            ),
            models.Index(
                fields=["mended_at"], condition=Q(mended_at__isnull=False), name="counterreading_mended"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization} {self.meter} since {self.period_start:%Y-%m-%d}"

    @property
    def difference(self) -> int:
        """Units by which the counter was above the ledger when it was last read, with calls on their way."""
        return self.counter - self.ledger
