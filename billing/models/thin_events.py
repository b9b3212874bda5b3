"""Thin events: Stripe's notices that usage was taken and does not count."""

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import User

# The event types that tell of usage which Stripe took and does not count.
METER_ERROR_TYPES = ["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]


class EventDestination(models.Model):
    """Where Stripe sends thin events: an address of ours, and the secret that signs them. `id` is Stripe's."""

    id = models.CharField(primary_key=True, max_length=255)
    uuid = models.UUIDField(unique=True, default=uuid4, help_text="Ends the address.")
    secret = models.CharField(max_length=255, editable=False)
    replaced_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Since when another one stands in for it. It is removed a while after.",
    )
    created_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class MeterErrorSample:
    """One rejected meter event. `identifier` is the one it was sent with, that of a meter report."""

    code: str
    message: str
    identifier: str


class ThinEventQuerySet(models.QuerySet["ThinEvent"]):
    def meter_errors(self) -> "ThinEventQuerySet":
        return self.filter(type__in=METER_ERROR_TYPES)

    def unacknowledged(self) -> "ThinEventQuerySet":
        return self.filter(acknowledged_at=None)

    def without_details(self) -> "ThinEventQuerySet":
        """Return the meter errors of which no more is known than that they happened."""
        return self.meter_errors().filter(fetched_at=None)


class ThinEvent(models.Model):
    """A thin event as it came, with the details that were fetched for it. `id` is Stripe's, so each is stored once."""

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=255, db_index=True)
    created = models.DateTimeField(help_text="When Stripe noticed.")
    received_at = models.DateTimeField(default=clock.now)
    related_id = models.CharField(
        "related object", max_length=255, blank=True, help_text="Stripe's id of the meter; empty for none."
    )
    data = models.JSONField(default=dict, blank=True, help_text="The event's data, fetched from Stripe.")
    fetched_at = models.DateTimeField(null=True, blank=True, help_text="When the details were fetched.")
    fetch_error = models.CharField(
        max_length=300, blank=True, help_text="Why Stripe would not give the details."
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    note = models.CharField(max_length=300, blank=True, help_text="What was done about it.")

    objects = ThinEventQuerySet.as_manager()

    class Meta:
        ordering = ["-created", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(acknowledged_at=None, acknowledged_by=None, note="")
                | (Q(acknowledged_at__isnull=False) & ~Q(note="")),
                name="thinevent_acknowledged_with_a_note",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def is_meter_error(self) -> bool:
        return self.type in METER_ERROR_TYPES

    @property
    def summary(self) -> str:
        """What happened, in Stripe's words where the details are here."""
        if self.fetch_error:
            return f"Stripe would not give the details: {self.fetch_error}"
        return str(self.data.get("developer_message_summary") or "")

    @property
    def error_count(self) -> int | None:
        """How many meter events were rejected; None as long as the details are not here."""
        reason = self.data.get("reason") or {}
        return reason.get("error_count")

    @property
    def codes(self) -> dict[str, int]:
        """Stripe's codes of what was wrong, each with how many meter events it rejected."""
        return {each["code"]: each["error_count"] for each in self._error_types}

    @property
    def samples(self) -> list[MeterErrorSample]:
        """Some of the rejected meter events: Stripe names a few of each kind, not all."""
        return [
            MeterErrorSample(kind["code"], each["error_message"], each["request"]["identifier"])
            for kind in self._error_types
            for each in kind.get("sample_errors", [])
        ]

    @property
    def validated_between(self) -> tuple[datetime, datetime] | None:
        """From when to when Stripe came upon the errors, None where it does not say."""
        edges = [self.data.get(f"validation_{edge}") for edge in ("start", "end")]
        start, end = (datetime.fromisoformat(each) if each else None for each in edges)
        return (start, end) if start and end else None

    @property
    def _error_types(self) -> list[dict]:
        return list((self.data.get("reason") or {}).get("error_types") or [])

    def acknowledge(self, *, by: User, note: str, now: datetime | None = None) -> bool:
        """Note that somebody has seen to it; return whether that was new. The first note stays."""
        changed = ThinEvent.objects.filter(pk=self.pk, acknowledged_at=None).update(
            acknowledged_at=now or clock.now(), acknowledged_by=by, note=note
        )
        self.refresh_from_db()
        return bool(changed)
