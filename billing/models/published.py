"""Prices at Stripe that are or once were a plan's."""

from django.db import models

from accounts import clock
from billing.models.plans import Meter, Plan


class PublishedPrice(models.Model):
    """A price at Stripe by which a subscription is known to be for a plan, however old the price is.

    Stripe's prices are never edited and never deleted, and neither are these rows: subscribers stay on theirs.
    The id is plain text, because the mirror may be emptied and filled anew.
    """

    stripe_price_id = models.CharField(max_length=255, unique=True)
    product_id = models.CharField(max_length=255)
    plan = models.ForeignKey(Plan, models.CASCADE, related_name="published_prices")
    meter = models.ForeignKey(Meter, models.PROTECT, null=True, blank=True, related_name="+")
    terms = models.JSONField(default=dict, help_text="What it charges, as in `PlanPrice.terms`.")
    is_adopted = models.BooleanField(
        default=False, help_text="Stripe had it before Tollgate, which therefore never archives it."
    )
    published_at = models.DateTimeField(default=clock.now)
    retired_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when new subscribers get another price."
    )
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["published_at", "pk"]

    def __str__(self) -> str:
        return self.stripe_price_id
