"""Plans and what they entitle to. Money lives in Stripe; limits live here."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization

slug_validator = RegexValidator(
    r"^[a-z][a-z0-9_]{0,39}$", "Use small letters, digits and _, starting with a letter."
)
currency_validator = RegexValidator(
    r"^[a-z]{3}$", "Use a three-letter ISO 4217 code in small letters, such as usd."
)


class Meter(models.Model):
    """What is counted. `slug` is also the event name at Stripe, prefixed by `tollgate_`."""

    slug = models.CharField(max_length=40, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=80)
    unit = models.CharField(max_length=40, default="call", help_text="One unit, as in “call” or “token”.")
    stripe_meter_id = models.CharField(max_length=255, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.name

    @property
    def event_name(self) -> str:
        return f"tollgate_{self.slug}"

    @property
    def product_id(self) -> str:
        """The id at Stripe of the product that the meter's prices are of: its name is what invoices say."""
        return f"tollgate_meter_{self.slug}"


class PlanQuerySet(models.QuerySet["Plan"]):
    def public(self) -> "PlanQuerySet":
        return self.filter(is_public=True)

    def of_last_resort(self) -> "Plan":
        """Return the plan an organization has without a paid one. Raises Plan.DoesNotExist before seeding."""
        return self.get(is_default=True)


class Plan(models.Model):
    """A tier. A limit of null means unlimited; 0 is refused so that nobody writes it for unlimited."""

    slug = models.CharField(max_length=40, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    rate_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Calls admitted in any 60 seconds. Empty: unlimited.",
    )
    is_public = models.BooleanField("public", default=True, help_text="Shown on the pricing page.")
    is_default = models.BooleanField(
        "default", default=False, help_text="What an organization has without a paid plan. Exactly one plan."
    )
    order = models.PositiveSmallIntegerField(default=0, help_text="Cheapest first.")
    stripe_product_id: str | None  # For mypy: dj-stripe publishes no types.
    stripe_product = models.ForeignKey(
        djstripe.Product,
        models.SET_NULL,
        to_field="id",
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["order", "slug"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="plan_one_default"
            ),
            models.CheckConstraint(
                condition=models.Q(rate_per_minute__isnull=True) | models.Q(rate_per_minute__gte=1),
                name="plan_rate_positive",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def product_id(self) -> str:
        """The product's id at Stripe: ours to choose, which makes creating it repeatable."""
        return f"tollgate_{self.slug}"

    def offered_prices(self) -> "list[PlanPrice]":
        """Return what checkout sells, the flat fee first: so far the monthly prices in US dollars."""
        return [price for price in self.prices.all() if (price.interval, price.currency) == ("month", "usd")]

    def find_base_price(self) -> "PlanPrice | None":
        """Return the flat fee that pages show: the one that checkout sells."""
        return next((price for price in self.offered_prices() if price.meter_id is None), None)


class PlanQuota(models.Model):
    """How much of one meter a plan includes each period."""

    class Overage(models.TextChoices):
        BLOCK = "block", "Refuse further calls"

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="quotas")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    included = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Units a period. Empty: unlimited.",
    )
    overage = models.CharField(max_length=10, choices=Overage, default=Overage.BLOCK)

    class Meta:
        ordering = ["meter"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "meter"], name="planquota_unique"),
            models.CheckConstraint(
                condition=models.Q(included__isnull=True) | models.Q(included__gte=1),
                name="planquota_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan}: {'unlimited' if self.included is None else self.included} {self.meter.unit}s"


class PlanPrice(models.Model):
    """A price of a plan at Stripe, found there by its lookup key.

    Without a meter it is the flat fee; with one it is the metered line that puts usage on the invoice.
    """

    class Interval(models.TextChoices):
        MONTH = "month", "Monthly"
        YEAR = "year", "Yearly"

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="prices")
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="+")
    currency = models.CharField(max_length=3, default="usd", validators=[currency_validator])
    interval = models.CharField(max_length=5, choices=Interval, default=Interval.MONTH)
    unit_amount = models.PositiveIntegerField(help_text="In the currency's minor unit: 2900 is $29.00.")
    stripe_price_id: str | None  # For mypy, as above.
    stripe_price = models.ForeignKey(
        djstripe.Price,
        models.SET_NULL,
        to_field="id",
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )

    class Meta:
        # The flat fee first: it is what a customer reads first at checkout and on the invoice.
        ordering = ["plan", models.F("meter").asc(nulls_first=True), "interval", "currency"]
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "meter", "currency", "interval"],
                nulls_distinct=False,
                name="planprice_unique",
            )
        ]

    def __str__(self) -> str:
        return self.lookup_key

    @property
    def is_published(self) -> bool:
        """Whether Stripe would charge this very amount."""
        return (
            self.stripe_price is not None and self.stripe_price.stripe_data["unit_amount"] == self.unit_amount
        )

    @property
    def lookup_key(self) -> str:
        meter = f"_{self.meter.slug}" if self.meter else ""
        return f"tollgate_{self.plan.slug}{meter}_{self.interval}_{self.currency}"


class Entitlement(models.Model):
    """What an organization may do now: the one answer to “may they?”.

    Computed by `refresh_entitlement`, never edited. `quotas` maps a meter's slug to
    {"included": units or null for unlimited, "overage": "block"}.
    """

    organization = models.OneToOneField(
        Organization, models.CASCADE, primary_key=True, related_name="entitlement"
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="entitlements")
    status = models.CharField(max_length=20, help_text="Stripe's subscription status, or “none”.")
    subscription_id = models.CharField(
        max_length=255, blank=True, help_text="Stripe's id of the live subscription."
    )
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)
    quotas = models.JSONField(default=dict)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    version = models.PositiveBigIntegerField(default=1, help_text="Grows by one with each change.")
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(period_end__gt=models.F("period_start")), name="entitlement_period_order"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.plan}"

    def find_quota(self, meter: str) -> int | None:
        """Return the units included this period, or None for unlimited. Raises KeyError on an unknown meter."""
        included: int | None = self.quotas[meter]["included"]
        return included
