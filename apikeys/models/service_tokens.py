"""Tokens of the operator's own servers, which ask the gate for others."""

import uuid

from django.db import models
from django.db.models import Q

from accounts import clock
from accounts.models import User
from apikeys.secret import DISPLAY_LENGTH


class ServiceTokenQuerySet(models.QuerySet["ServiceToken"]):
    def active(self) -> "ServiceTokenQuerySet":
        """Those that are neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()))


class ServiceToken(models.Model):
    """A server of the operator's that may ask about keys. Only its SHA-256 and first characters are kept."""

    class Scope(models.TextChoices):
        AUTHORIZE = "gateway:authorize", "Ask for each request of a proxy"
        VERIFY = "keys:verify", "Verify keys"

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

    objects = ServiceTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
