"""Writes to the API that may be sent again."""

from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction

from accounts import clock
from accounts.models import Organization
from billing.errors import IdempotencyKeyInUse, IdempotencyKeyReused

KEPT = timedelta(hours=24)
# Longer than any request takes. Who still holds a key then has died with its process.
CLAIM = timedelta(minutes=2)


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def older_than(self, moment: datetime) -> "IdempotencyKeyQuerySet":
        return self.filter(created_at__lt=moment)

    def claim(self, *, organization: Organization, key: str, fingerprint: str) -> "IdempotencyKey":
        """Return the key's row, with the answer in it where the request has been answered, else held for us.

        Raises IdempotencyKeyReused where it names another request, and IdempotencyKeyInUse where this one is
        being worked on right now.
        """
        now = clock.now()
        with transaction.atomic():
            self.filter(organization=organization, key=key).older_than(now - KEPT).delete()
            row, is_new = self.select_for_update().get_or_create(
                organization=organization,
                key=key,
                defaults={"fingerprint": fingerprint, "claimed_at": now, "created_at": now},
            )
            if row.fingerprint != fingerprint:
                raise IdempotencyKeyReused("This Idempotency-Key was used for another request.")
            if not is_new and not row.is_answered:
                if row.claimed_at and now - row.claimed_at < CLAIM:
                    raise IdempotencyKeyInUse(
                        "The first request with this Idempotency-Key is not answered yet."
                    )
                row.claimed_at = now
                row.save(update_fields=["claimed_at"])
        return row


class IdempotencyKey(models.Model):
    """A client's name for one write, unique within its organization, and what the write led to.

    `body` holds no secret: what is one is made anew for each answer.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="idempotency_keys")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status = models.PositiveSmallIntegerField(
        null=True, help_text="HTTP status of the answer. Null: not answered yet."
    )
    body = models.JSONField(null=True)
    claimed_at = models.DateTimeField(
        null=True, help_text="Since when it is worked on. Null: nobody is at it."
    )
    created_at = models.DateTimeField(default=clock.now, db_index=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="idempotencykey_unique"),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def is_answered(self) -> bool:
        return self.status is not None

    def answer(self, *, status: int, body: Any) -> None:
        """Keep what the request led to."""
        self._set(status=status, body=body, claimed_at=None)

    def release(self) -> None:
        """Let the same request be tried again; another one may still not have this key."""
        self._set(claimed_at=None)

    def _set(self, **fields: Any) -> None:
        # Not save(): the row may have been purged meanwhile, and what was done is done.
        IdempotencyKey.objects.filter(pk=self.pk).update(**fields)
