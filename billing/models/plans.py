"""The catalogue: plans, what they include, and what they cost."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from djstripe import models as djstripe

from accounts import clock
from billing.models.meters import Meter
from billing.models.validators import (
    at_least_one,
    check_burst,
    currency_validator,
    lookup_key_validator,
    not_negative,
    slug_validator,
)


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
        validators=[at_least_one],
        help_text="Calls admitted in any 60 seconds. Empty: unlimited.",
    )
    burst = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[at_least_one],
        help_text="Calls admitted at once; after that they come back evenly over the minute. Empty: the whole "
        "minute's calls may come at once.",
    )
    api_key_limit = models.PositiveIntegerField(
        "API keys",
        null=True,
        blank=True,
        validators=[at_least_one],
        help_text="Active keys an organization may have. Empty: unlimited.",
    )
    trial_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1, "Use 1 or more, or leave it empty for no trial."),
            MaxValueValidator(730, "Stripe allows trials of at most 730 days."),
        ],
        help_text="Days before the first payment, once for each customer. Empty: no trial.",
    )
    is_public = models.BooleanField("public", default=True, help_text="Shown on the pricing page.")
    is_default = models.BooleanField(
        "default", default=False, help_text="What an organization has without a paid plan. Exactly one plan."
    )
    order = models.PositiveSmallIntegerField(
        default=0,
        help_text="Cheapest first. A change to a plan further on is an upgrade and applies at once.",
    )
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
            models.CheckConstraint(
                condition=models.Q(burst__isnull=True)
                | models.Q(
                    burst__gte=1, burst__lte=models.F("rate_per_minute"), rate_per_minute__isnull=False
                ),
                name="plan_burst_within_rate",
                violation_error_message="A burst needs calls a minute, and is at most as many.",
            ),
            models.CheckConstraint(
                condition=models.Q(api_key_limit__isnull=True) | models.Q(api_key_limit__gte=1),
                name="plan_api_keys_positive",
            ),
            models.CheckConstraint(
                condition=models.Q(trial_days__isnull=True) | models.Q(trial_days__range=(1, 730)),
                name="plan_trial_days",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def product_id(self) -> str:
        """The product's id at Stripe: ours to choose, which makes creating it repeatable."""
        return f"tollgate_{self.slug}"

    def offered_prices(self, *, interval: str = "month", currency: str = "usd") -> "list[PlanPrice]":
        """Return what a subscription to this plan is made of, the flat fee first; empty where it is not sold so.

        The fee is charged once an interval. The metered prices are monthly, as quotas are, in any case.
        """
        prices = [price for price in self.prices.all() if price.currency == currency]
        fees = [price for price in prices if price.meter_id is None and price.interval == interval]
        return fees + [price for price in prices if price.meter_id is not None] if fees else []

    def find_base_price(self, *, interval: str = "month", currency: str = "usd") -> "PlanPrice | None":
        """Return the flat fee: what pages show, and what checkout sells."""
        return next(iter(self.offered_prices(interval=interval, currency=currency)), None)

    def fees(self) -> "list[PlanPrice]":
        """Return the flat fees, in every interval and currency it is sold in."""
        return [price for price in self.prices.all() if price.meter_id is None]

    def clean(self) -> None:
        if self.product_id.startswith(Meter.PRODUCT_PREFIX):
            raise ValidationError(
                {"slug": "A slug may not begin with meter_: Stripe's meters are called so."}
            )
        check_burst(self.burst, rate=self.rate_per_minute)

    @transaction.atomic
    def arrange_metered_prices(self) -> None:
        """Give each quota a metered price in each currency that the plan is sold in, free where there is none.

        It is what puts usage on the invoice. Free ones that are of no use any more go.
        """
        # Asked for anew: what was prefetched may be of before the change that this follows on.
        currencies = set(self.prices.filter(meter=None).values_list("currency", flat=True))
        meters = PlanQuota.objects.filter(plan=self).values_list("meter", flat=True)
        wanted = {(meter, currency) for meter in meters for currency in currencies}
        metered = list(self.prices.exclude(meter=None).prefetch_related("tiers"))
        for price in metered:
            if (price.meter_id, price.currency) not in wanted and not price.tiers.all():
                price.delete()
        for meter_id, currency in sorted(wanted - {(price.meter_id, price.currency) for price in metered}):
            PlanPrice.objects.create(plan=self, meter_id=meter_id, currency=currency)

    @transaction.atomic
    def make_default(self) -> None:
        """Make this the plan of last resort, instead of the one that is."""
        others = Plan.objects.select_for_update().filter(is_default=True).exclude(pk=self.pk)
        others.update(is_default=False)
        self.is_default = True
        self.save(update_fields=["is_default"])


class PlanQuota(models.Model):
    """How much of one meter a plan includes each month."""

    class Overage(models.TextChoices):
        BLOCK = "block", "Refuse further calls"
        BILL = "bill", "Bill further units"

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="quotas")
    meter = models.ForeignKey(
        Meter,
        models.PROTECT,
        related_name="+",
        error_messages={"null": "Choose what is counted.", "blank": "Choose what is counted."},
    )
    included = models.PositiveBigIntegerField(
        null=True, blank=True, validators=[at_least_one], help_text="Units a month. Empty: unlimited."
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
            models.CheckConstraint(
                condition=~models.Q(included__isnull=True, overage="bill"),
                name="planquota_unlimited_bills_nothing",
                violation_error_message="Unlimited units leave nothing to bill: say how many are included.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan}: {'unlimited' if self.included is None else self.included} {self.meter.unit}s"

    @property
    def is_billed(self) -> bool:
        """Whether units beyond the included ones are sold, and not refused."""
        return self.overage == self.Overage.BILL


class PlanPrice(models.Model):
    """A price of a plan at Stripe, found there by its lookup key.

    Without a meter it is the flat fee. With one it is the metered line that puts usage on the invoice: what
    the plan includes costs nothing, and `tiers` say what each unit beyond it costs.
    """

    class Interval(models.TextChoices):
        MONTH = "month", "Monthly"
        YEAR = "year", "Yearly"

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="prices")
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="+")
    currency = models.CharField(max_length=3, default="usd", validators=[currency_validator])
    interval = models.CharField(max_length=5, choices=Interval, default=Interval.MONTH)
    unit_amount = models.IntegerField(
        default=0,
        validators=[not_negative],
        help_text="The fee in the currency's minor unit: 2900 is $29.00. 0 for a metered price, which has tiers.",
    )
    lookup_key = models.CharField(
        max_length=200,
        unique=True,
        blank=True,
        validators=[lookup_key_validator],
        help_text="The name by which Stripe's price is found. Empty: made from plan, interval and currency.",
    )
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
    published_terms = models.JSONField(
        default=dict, editable=False, help_text="`terms` of the price that Stripe has under the lookup key."
    )

    class Meta:
        # The flat fee first: it is what a customer reads first at checkout and on the invoice.
        ordering = ["plan", models.F("meter").asc(nulls_first=True), "interval", "currency"]
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "meter", "currency", "interval"],
                nulls_distinct=False,
                name="planprice_unique",
                violation_error_message="There is a price of this kind, interval and currency already.",
            ),
            models.CheckConstraint(condition=models.Q(unit_amount__gte=0), name="planprice_not_negative"),
            models.CheckConstraint(
                condition=models.Q(meter__isnull=True) | models.Q(interval="month", unit_amount=0),
                name="planprice_metered_monthly",
                violation_error_message="A metered price is monthly and has no fee: its tiers say what units cost.",
            ),
        ]

    def __str__(self) -> str:
        return self.lookup_key

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self.lookup_key:
            self.lookup_key = self.own_lookup_key()
            if kwargs.get("update_fields"):
                kwargs["update_fields"] = {*kwargs["update_fields"], "lookup_key"}
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        # Subscribers stay on the price that Stripe has.
        published = self.plan.published_prices.filter(stripe_price_id=self.stripe_price_id, retired_at=None)
        published.update(retired_at=clock.now())
        return super().delete(*args, **kwargs)

    @property
    def is_published(self) -> bool:
        """Whether Stripe would charge this very amount."""
        # Not by the mirror: dj-stripe fetches prices without their tiers.
        return self.stripe_price_id is not None and self.published_terms == self.terms()

    def terms(self) -> dict[str, Any]:
        """Return what cannot be changed about a price at Stripe, in Stripe's words; what differs is another price."""
        terms: dict[str, Any] = {"currency": self.currency, "interval": self.interval}
        if self.meter:
            terms["meter"] = self.meter.slug
        tiers = self.stripe_tiers()
        return terms | ({"tiers": tiers} if tiers else {"unit_amount": self.unit_amount})

    def stripe_tiers(self) -> list[dict[str, Any]]:
        """Return the tiers as Stripe takes them, the included units first and free; none for a flat price."""
        rows = list(self.tiers.all()) if self.pk and self.meter_id else []
        if not rows:
            return []
        quota = self.plan.quotas.filter(meter=self.meter_id).first()
        tiers: list[dict[str, Any]] = []
        if quota and quota.included:
            tiers.append({"up_to": quota.included, "unit_amount_decimal": "0"})
        for row in rows:
            tiers.append(
                {"up_to": row.up_to or "inf", "unit_amount_decimal": f"{row.unit_amount.normalize():f}"}
            )
        return tiers

    @transaction.atomic
    def set_tiers(self, tiers: Iterable[tuple[int | None, Decimal]]) -> None:
        """Make (up_to, unit_amount) in order the tiers beyond what the plan includes."""
        self.tiers.all().delete()
        PriceTier.objects.bulk_create(
            PriceTier(price=self, up_to=up_to, unit_amount=amount) for up_to, amount in tiers
        )

    def own_lookup_key(self) -> str:
        meter = f"_{self.meter.slug}" if self.meter else ""
        return f"tollgate_{self.plan.slug}{meter}_{self.interval}_{self.currency}"


class PriceTier(models.Model):
    """What a unit beyond the included ones costs, up to a number of units counted from the period's first.

    Graduated, in Stripe's sense: each unit is charged at the price of the tier that it falls into.
    """

    price = models.ForeignKey(PlanPrice, models.CASCADE, related_name="tiers")
    up_to = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1, "Use 1 or more, or leave it empty for “and all beyond”.")],
        help_text="The last unit at this price, included ones counted too. Empty: all beyond.",
    )
    unit_amount = models.DecimalField(
        max_digits=20,
        decimal_places=12,
        validators=[MinValueValidator(Decimal(0), "A price cannot be negative.")],
        help_text="For each unit, in the currency's minor unit; fractions are fine: 0.2 is $0.002.",
    )

    class Meta:
        ordering = [models.F("up_to").asc(nulls_last=True)]
        constraints = [
            models.UniqueConstraint(
                fields=["price", "up_to"],
                nulls_distinct=False,
                name="pricetier_unique",
                violation_error_message="Two tiers end at the same unit.",
            ),
            models.CheckConstraint(condition=models.Q(unit_amount__gte=0), name="pricetier_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.unit_amount.normalize():f} a unit {f'up to {self.up_to}' if self.up_to else 'beyond'}"


def check_tiers(tiers: Iterable[tuple[int | None, Decimal]], *, included: int | None) -> None:
    """Raise ValidationError where (up_to, unit_amount) in the order given are no price for what lies beyond `included`.

    Stripe's rule: rising, and the last one without an end.
    """
    rows = list(tiers)
    if not rows:
        return
    if included is None:
        raise ValidationError("The plan includes unlimited units: there is nothing for tiers to price.")
    last = included
    for number, (up_to, _) in enumerate(rows, start=1):
        if up_to is None and number < len(rows):
            raise ValidationError(
                "Only the last tier may have no end: the tiers after it would never be reached."
            )
        if up_to is not None and up_to <= last:
            what = (
                f"the {included:,} units that are included"
                if number == 1
                else f"the tier before it, {last:,}"
            )
            raise ValidationError(f"Tiers are out of order: {up_to:,} does not lie beyond {what}.")
        last = up_to if up_to is not None else last
    if rows[-1][0] is not None:
        raise ValidationError(
            f"What does a unit beyond {rows[-1][0]:,} cost? Leave the last tier's end empty."
        )
