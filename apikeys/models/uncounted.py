"""Units that were served while Redis, and with it the counter of the quota, was out of reach."""

from django.db import models

from accounts import clock
from accounts.models import Organization


class UncountedUnits(models.Model):
    """One call that PostgreSQL let in, or events that were ingested, with Redis out of reach: the quota's counter does
    not know of it.

    Written when the call is let in or the events are stored, under the lock of the organization's entitlement. Taken
    up, and deleted, when the gate's copy is next filled: a counter that survived is raised by it, as are those that its
    period was carried into, and one that did not begins with the ledger's sums and with what is not `is_stored` yet.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="uncounted_units")
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    units = models.PositiveBigIntegerField()
    is_stored = models.BooleanField(default=False, help_text="Whether the ledger has its event.")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name_plural = "uncounted units"

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter}: {self.units}"
