"""What staff decide once for the whole installation."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


def validate_days(value: list[int]) -> None:
    if not isinstance(value, list) or not all(isinstance(day, int) and 0 < day <= 60 for day in value):
        raise ValidationError("List the days after the failed payment, such as [3, 5, 7].")
    if value != sorted(set(value)):
        raise ValidationError("The days must rise, each named once.")


class BillingSettings(models.Model):
    """One row. The defaults need nothing to be set up at Stripe."""

    class AfterRetries(models.TextChoices):
        CANCEL = "canceled", "cancel the subscription"
        UNPAID = "unpaid", "mark the subscription unpaid"
        PAST_DUE = "past_due", "leave the subscription past due"

    allow_promotion_codes = models.BooleanField(
        default=True, help_text="Checkout has a field for promotion codes."
    )
    automatic_tax = models.BooleanField(
        default=False,
        help_text="Stripe Tax computes taxes from the customer's address, which checkout then asks for. "
        "Stripe needs your own address and registrations first.",
    )
    collect_tax_ids = models.BooleanField(default=False, help_text="Checkout asks businesses for a tax id.")
    retry_days = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_days],
        help_text="When Stripe tries a failed payment again, in days after the first try, as you have set it at "
        "Stripe. Only the timeline goes by it. Empty with Smart Retries, which choose their own times.",
    )
    after_retries = models.CharField(
        max_length=10,
        choices=AfterRetries,
        default=AfterRetries.CANCEL,
        help_text="What Stripe does when the last try has failed, as you have set it there.",
    )
    portal_configuration_id = models.CharField(max_length=255, blank=True, editable=False)

    class Meta:
        verbose_name = verbose_name_plural = "billing settings"
        constraints = [models.CheckConstraint(condition=models.Q(pk=1), name="billingsettings_one_row")]

    def __str__(self) -> str:
        return "Billing settings"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.pk = 1
        super().save(*args, **kwargs)

    @classmethod
    def load(cls) -> "BillingSettings":
        """Return the row, made with its defaults where there is none yet."""
        return cls.objects.get_or_create(pk=1)[0]
