"""What a customer is told by e-mail about their subscription."""

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import Organization


class NoticeKind(models.TextChoices):
    TRIAL_ENDING = "trial_ending", "trial ends soon"
    TRIAL_REFUSED = "trial_refused", "no second trial"
    PAYMENT_FAILED = "payment_failed", "payment failed"
    ACCESS_REDUCED = "access_reduced", "access reduced"
    REMINDER = "reminder", "reminder"
    RECOVERED = "recovered", "payment recovered"
    CANCELLED = "cancelled", "subscription ended"
    PLAN_CHANGED = "plan_changed", "plan changed"
    QUOTA_REACHED = "quota_reached", "part of a quota used"
    SPEND_REACHED = "spend_reached", "part of a spend cap used"


class NoticeState(models.TextChoices):
    PENDING = "pending", "to be sent"
    SENDING = "sending", "being sent"
    SENT = "sent", "sent"
    # The mail server may have it or not: the sender, or the connection to it, died in between.
    UNSURE = "unsure", "perhaps sent"
    FAILED = "failed", "failed"
    # By the time it could be sent it was no longer so.
    OUTDATED = "outdated", "not sent, no longer true"


class NoticeQuerySet(models.QuerySet["Notice"]):
    def due(self, now: datetime) -> "NoticeQuerySet":
        return self.filter(state=NoticeState.PENDING, next_try_at__lte=now)

    def told(self) -> "NoticeQuerySet":
        """Those that have reached the customer, or may have."""
        return self.filter(state__in=[NoticeState.SENDING, NoticeState.SENT, NoticeState.UNSURE])


class Notice(models.Model):
    """One e-mail about one occasion: `key` names it, so that it is told of once however often it is found.

    Written in the transaction of the change that causes it, and sent afterwards: it is news if and only if
    the change is.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=NoticeKind)
    key = models.CharField(max_length=255, help_text="The occasion. There is one notice of a kind for each.")
    context = models.JSONField(default=dict, help_text="What was so when it was written.")
    state = models.CharField(max_length=10, choices=NoticeState, default=NoticeState.PENDING)
    created_at = models.DateTimeField(default=clock.now)
    next_try_at = models.DateTimeField(default=clock.now)
    claimed_at = models.DateTimeField(null=True, blank=True, help_text="When the last try began.")
    sent_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    repeats = models.PositiveSmallIntegerField(default=0, help_text="How often staff had it sent again.")
    error = models.CharField("last error", max_length=300, blank=True)
    recipient = models.EmailField(blank=True, help_text="Where it went.")
    subject = models.CharField(max_length=200, blank=True)
    text = models.TextField(blank=True, help_text="What it said.")

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind", "key"], name="notice_once"),
            models.CheckConstraint(condition=Q(kind__in=NoticeKind.values), name="notice_kind_known"),
            models.CheckConstraint(condition=Q(state__in=NoticeState.values), name="notice_state_known"),
            models.CheckConstraint(
                condition=~Q(state="sent") | Q(sent_at__isnull=False), name="notice_sent_when"
            ),
        ]
        indexes = [
            # What the sweep looks for is always a few rows of many.
            models.Index(
                fields=["state", "next_try_at"],
                condition=Q(state__in=["pending", "sending"]),
                name="notice_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.get_kind_display()}"
