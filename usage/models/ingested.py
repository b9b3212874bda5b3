"""What is remembered of events that the operator's own services sent."""

from django.db import models

from accounts.models import Organization


class IngestedEvent(models.Model):
    """That an event was taken, for good: whoever sends it again, however much later, adds nothing.

    `id` is made of the sender's source and id, which name it in the whole installation, and is the ledger's too;
    `fingerprint` of all it says. It stays when the ledger's month is dropped.
    """

    id = models.UUIDField(primary_key=True)
    fingerprint = models.UUIDField()
    organization_id = models.UUIDField()
    occurred_at = models.DateTimeField()

    class Meta:
        db_table = "usage_ingested"

    def __str__(self) -> str:
        return str(self.id)


class PeriodPeak(models.Model):
    """The largest value that a meter which keeps maxima has had in a period."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    value = models.BigIntegerField()

    class Meta:
        db_table = "usage_peak"
        constraints = [
            models.UniqueConstraint(fields=["organization", "meter", "period_start"], name="usagepeak_unique")
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter}: {self.value}"


class DistinctValue(models.Model):
    """What a meter that counts different values has seen in a period: the ledger's `distinct_key`."""

    pk = models.CompositePrimaryKey("organization_id", "meter", "period_start", "key")
    organization_id = models.UUIDField()
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    key = models.UUIDField()

    class Meta:
        db_table = "usage_distinct"

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter}: {self.key}"
