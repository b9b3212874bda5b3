"""What was set up at Stripe, and when."""

from django.conf import settings
from django.db import models

from accounts import clock


class SetupRun(models.Model):
    """One run of the set-up at Stripe. `steps` are {name, title, outcome, detail}, in their order."""

    started_at = models.DateTimeField(default=clock.now)
    finished_at = models.DateTimeField(
        null=True, blank=True, help_text="Empty while it runs, or if it broke off."
    )
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: the command.",
    )
    steps = models.JSONField(default=list)

    class Meta:
        verbose_name = "set-up at Stripe"
        verbose_name_plural = "set-ups at Stripe"
        ordering = ["-started_at", "-pk"]
        permissions = [("set_up_stripe", "Can set up Stripe: endpoints, plans, portal")]

    def __str__(self) -> str:
        return f"Set-up of {self.started_at:%Y-%m-%d %H:%M} UTC"

    @property
    def has_failed(self) -> bool:
        return self.finished_at is None or any(step["outcome"] == "failed" for step in self.steps)

    @property
    def changed_nothing(self) -> bool:
        return all(step["outcome"] == "unchanged" for step in self.steps)
