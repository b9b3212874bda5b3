"""Moving subscribers from older prices of their plan to the current ones."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization
from billing.models.plans import Plan


class PriceMove(models.Model):
    """One order of staff's to move a plan's subscribers. Its rows say how far it is."""

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="price_moves")
    from_price_id = models.CharField(
        "from price",
        max_length=255,
        blank=True,
        help_text="Stripe's id of the older price. Empty: all of them.",
    )
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.plan}: {self.from_price_id or 'all older prices'}"


class SubscriberMoveQuerySet(models.QuerySet["SubscriberMove"]):
    def unfinished(self) -> "SubscriberMoveQuerySet":
        return self.filter(state__in=SubscriberMove.UNFINISHED)

    def due(self) -> "SubscriberMoveQuerySet":
        """Return what can be gone on with now."""
        return self.unfinished().filter(Q(not_before=None) | Q(not_before__lte=clock.now()))


class SubscriberMove(models.Model):
    """Of a move: one subscription. `detail` is a sentence for staff."""

    class State(models.TextChoices):
        PENDING = "pending", "to do"
        WAITING = "waiting", "waits for the month to turn"
        MOVED = "moved", "moved"
        SKIPPED = "skipped", "left as it is"
        FAILED = "failed", "failed"

    UNFINISHED = (State.PENDING, State.WAITING)

    move = models.ForeignKey(PriceMove, models.CASCADE, related_name="rows")
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    subscription_id = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    not_before = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the month turns in which its metered prices were still the older ones.",
    )
    detail = models.CharField(max_length=500, blank=True)
    changed_at = models.DateTimeField(default=clock.now)

    objects = SubscriberMoveQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["move", "subscription_id"], name="subscribermove_unique"),
            # Two moves of one subscription at once would only repeat each other.
            models.UniqueConstraint(
                fields=["subscription_id"],
                condition=Q(state__in=["pending", "waiting"]),
                name="subscribermove_one_unfinished",
            ),
        ]
        indexes = [
            models.Index(
                fields=["not_before"],
                condition=Q(state__in=["pending", "waiting"]),
                name="subscribermove_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.get_state_display()}"
