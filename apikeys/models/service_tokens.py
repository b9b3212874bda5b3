"""Tokens of the operator's own servers, which ask the gate for others.

Their form is `tgs_`, 32 base62 characters and the checksum of API keys: a scanner that finds one knows what it
is, and a mistyped one is refused without a look-up.
"""

import re
import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Q

from accounts import clock
from accounts.models import BASE62, User
from apikeys.secret import CHECKSUM_LENGTH, DISPLAY_LENGTH, SECRET_LENGTH, checksum, digest
from apikeys.signals import service_token_changed

PREFIX = "tgs_"
SHOWN = len(PREFIX) + 8  # Enough to tell tokens apart.
FORM = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}", re.ASCII)


class NotInUse(Exception):
    """The token is revoked, has expired, or has a successor already: there is nothing to rotate."""


def new_secret() -> str:
    body = PREFIX + "".join(secrets.choice(BASE62) for _ in range(SECRET_LENGTH))
    return body + checksum(body)


def find_digest(secret: str) -> str | None:
    """Return what a token is found by, None where its form or checksum is wrong."""
    if not FORM.fullmatch(secret) or checksum(secret[:-CHECKSUM_LENGTH]) != secret[-CHECKSUM_LENGTH:]:
        return None
    return digest(secret)


class ServiceTokenQuerySet(models.QuerySet["ServiceToken"]):
    def active(self) -> "ServiceTokenQuerySet":
        """Those that are neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()))


class ServiceTokenManager(models.Manager.from_queryset(ServiceTokenQuerySet)):  # type: ignore[misc]
    def issue(
        self,
        *,
        name: str,
        scopes: Iterable[str],
        user: User | None = None,
        expires_at: datetime | None = None,
    ) -> tuple["ServiceToken", str]:
        """Create a token. The secret is returned once and never stored."""
        secret = new_secret()
        token: ServiceToken = self.create(
            name=name,
            scopes=sorted(scopes),
            prefix=secret[:SHOWN],
            digest=digest(secret),
            created_by=user,
            expires_at=expires_at,
        )
        return token, secret


class ServiceToken(models.Model):
    """A server of the operator's that may ask about keys, or tell of usage.

    Only its SHA-256 and first characters are kept.
    """

    class Scope(models.TextChoices):
        AUTHORIZE = "gateway:authorize", "Ask for each request of a proxy"
        VERIFY = "keys:verify", "Verify keys"
        EVENTS = "events:write", "Send usage events"
        METRICS = "metrics:read", "Read metrics"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, help_text="The server that holds it, such as “edge nginx”.")
    prefix = models.CharField(max_length=DISPLAY_LENGTH, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is revoked.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.OneToOneField(
        "self", models.SET_NULL, null=True, blank=True, editable=False, related_name="replaces"
    )

    objects = ServiceTokenManager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and not self.is_expired

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()

    def rotate(self, *, overlap: timedelta, user: User | None = None) -> tuple["ServiceToken", str]:
        """Issue a successor with the same name, scopes and end; this one works for `overlap` longer at most.

        Raises NotInUse where it is revoked, has expired or has a successor, and RedisError, having changed
        nothing, where the gate cannot be told.
        """
        with transaction.atomic():
            token = ServiceToken.objects.select_for_update().get(pk=self.pk)
            if not token.is_active or token.replaced_by_id:
                raise NotInUse(f"{token} is revoked, has expired or has a successor.")
            successor, secret = ServiceToken.objects.issue(
                name=token.name, scopes=token.scopes, user=user, expires_at=token.expires_at
            )
            ends = clock.now() + overlap
            token.replaced_by = successor
            token.expires_at = min(token.expires_at, ends) if token.expires_at else ends
            token.save(update_fields=["replaced_by", "expires_at"])
            service_token_changed.send(sender=ServiceToken, token=token)
        self.refresh_from_db()
        return successor, secret

    def revoke(self) -> None:
        """Refuse the token from the next call on, in every process. Revoking it again changes nothing.

        Raises RedisError, having changed nothing, where the gate cannot be told.
        """
        with transaction.atomic():
            token = ServiceToken.objects.select_for_update().get(pk=self.pk)
            if token.revoked_at is None:
                token.revoked_at = clock.now()
                token.save(update_fields=["revoked_at"])
                service_token_changed.send(sender=ServiceToken, token=token)
        self.refresh_from_db()
