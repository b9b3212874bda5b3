"""What a customer will not spend more than."""

from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization, User
from billing.models.meters import Meter
from billing.models.validators import currency_validator


class SpendCap(models.Model):
    """A customer's own limit: for one meter, what a period may cost beyond the plan's fee.

    The gate refuses what would cost more. `amount` is in the currency's minor unit; 0 lets through only what
    the plan includes.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="spend_caps")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    amount = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3, validators=[currency_validator])
    changed_at = models.DateTimeField(default=clock.now)
    changed_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "meter"], name="spendcap_unique"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="spendcap_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.meter} at most {self.amount} {self.currency}"
