"""The ledger of events."""

from django.db import models

from accounts import clock


class UsageEvent(models.Model):
    """One billable response, or one event that the operator's own services sent: a row of the ledger, never changed.

    The table is partitioned by month of `occurred_at` (see `usage.partitions`). `id` is a UUIDv7 given
    when the call was served, or made of what the event's sender calls it (see IngestedEvent); with the time it
    makes the primary key, so that an event delivered twice is stored once.

    `units` is what the event adds to its period. For most meters that is its value. For a maximum it is by how much
    `value` is above all that arrived before it, and for a unique count it is 1 where `distinct_key`, made of what
    was counted, had not been there: so the units of a period are its bill, in whichever order events arrive.
    """

    pk = models.CompositePrimaryKey("id", "occurred_at")
    id = models.UUIDField()
    occurred_at = models.DateTimeField()
    # Plain columns, not foreign keys: a ledger outlives what it names, and a COPY checks no other table.
    organization_id = models.UUIDField()
    api_key_id = models.UUIDField()
    meter = models.CharField(max_length=40)
    units = models.BigIntegerField()
    value = models.BigIntegerField(null=True, help_text="What the event said, for a meter that keeps maxima.")
    distinct_key = models.UUIDField(
        null=True, help_text="Of what the event said, for a meter that counts it once."
    )
    period_start = models.DateTimeField(help_text="Start of the quota period that the units were charged to.")
    endpoint = models.CharField(max_length=200)
    method = models.CharField(max_length=10)
    status = models.PositiveSmallIntegerField()
    response_ms = models.PositiveIntegerField()

    class Meta:
        db_table = "usage_event"

    def __str__(self) -> str:
        return str(self.id)


class DroppedMonth(models.Model):
    """A month of the ledger that retention has dropped. Its rollups stay; events of it that come now are set aside."""

    month = models.DateTimeField(primary_key=True, help_text="Its first moment, UTC.")
    events = models.BigIntegerField()
    units = models.DecimalField(max_digits=40, decimal_places=0)
    dropped_at = models.DateTimeField(default=clock.now)

    class Meta:
        db_table = "usage_dropped_month"

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class DroppedUnits(models.Model):
    """What a dropped month had of one quota period: with what the kept months have, the ledger's units of it."""

    month = models.ForeignKey(
        DroppedMonth, models.PROTECT, related_name="periods", db_column="month", db_index=False
    )
    # Plain columns, as in the ledger.
    organization_id = models.UUIDField()
    meter = models.CharField(max_length=40)
    period_start = models.DateTimeField()
    units = models.BigIntegerField()

    class Meta:
        db_table = "usage_dropped_units"
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "meter", "period_start", "month"], name="droppedunits_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.meter} {self.period_start:%Y-%m-%d}: {self.units}"
