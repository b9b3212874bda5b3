"""Units that were served while Redis, and with it the counter of the quota, was out of reach."""

from django.db import models

from accounts import clock
from accounts.models import Organization


class UncountedUnits(models.Model):
    """One served call that the ledger has and the quota's counter may not.

    Written in the transaction that stores the event; taken up, and deleted, when the gate's copy is next
    filled: a counter that survived is raised by it, and one that did not is filled from the ledger's sums.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="uncounted_units")
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    units = models.PositiveBigIntegerField()
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name_plural = "uncounted units"

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter}: {self.units}"
