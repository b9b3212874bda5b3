"""What is counted."""

from django.db import models

from billing.models.validators import slug_validator


class Meter(models.Model):
    """What is counted. `slug` is also the event name at Stripe, prefixed by `tollgate_`.

    Whatever the aggregation, Stripe is told what each event adds to a period, and adds that up: so its meters are
    all sums, and the quota, the reports and the bill count alike.
    """

    class Aggregation(models.TextChoices):
        SUM = "sum", "Sum of the events' values"
        COUNT = "count", "Number of events"
        MAX = "max", "Largest value of a period"
        UNIQUE = "unique", "Number of different values in a period"

    # What an event of these adds does not hang on others: so calls can be charged to them before they are served.
    GATED = frozenset({Aggregation.SUM, Aggregation.COUNT})

    slug = models.CharField(
        max_length=40,
        unique=True,
        validators=[slug_validator],
        error_messages={"unique": "There is a meter with this slug already."},
        help_text="What views and events call it, such as tokens. It cannot be changed once the meter is published or "
        "used.",
    )
    name = models.CharField(max_length=80, help_text="What invoices and pages call it, such as Tokens.")
    unit = models.CharField(
        max_length=40, default="call", help_text="One unit, as in “call” or “token”: an s makes it several."
    )
    aggregation = models.CharField(
        max_length=10,
        choices=Aggregation,
        default=Aggregation.SUM,
        help_text="How the events of a period make up its units. Calls can be charged to a sum or a number; the others "
        "are counted by events alone. It cannot be changed once the meter is published or used.",
    )
    stripe_meter_id = models.CharField(max_length=255, blank=True, editable=False)

    PRODUCT_PREFIX = "tollgate_meter_"

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_gated(self) -> bool:
        """Whether calls can be charged to it before they are served."""
        return self.aggregation in self.GATED

    @property
    def event_name(self) -> str:
        return f"tollgate_{self.slug}"

    @property
    def product_id(self) -> str:
        """The id at Stripe of the product that the meter's prices are of: its name is what invoices say."""
        return f"{self.PRODUCT_PREFIX}{self.slug}"
