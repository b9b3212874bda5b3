import uuid

from django.db import models, transaction

from accounts import clock
from accounts.models import Organization, User
from apikeys.secret import DISPLAY_LENGTH, digest, new_secret
from apikeys.signals import keys_changed
from billing.entitlements import lock_entitlement


class AlreadyIssued(Exception):
    """The request to make this key has been carried out before."""


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def active(self) -> "APIKeyQuerySet":
        return self.filter(revoked_at=None)

    def active_first(self) -> "APIKeyQuerySet":
        return self.order_by(models.F("revoked_at").desc(nulls_first=True), "-created_at")


class APIKeyManager(models.Manager.from_queryset(APIKeyQuerySet)):  # type: ignore[misc]
    def issue(
        self,
        *,
        organization: Organization,
        name: str,
        user: User | None = None,
        key_id: uuid.UUID | None = None,
    ) -> tuple["APIKey", str]:
        """Create a key. The secret is returned once and never stored.

        `key_id`, where given, names the request to make one: the second time raises AlreadyIssued.
        """
        secret = new_secret(organization.ref)
        with transaction.atomic():
            lock_entitlement(organization)
            if key_id and APIKey.objects.filter(pk=key_id).exists():
                raise AlreadyIssued(f"Key {key_id} exists.")
            key: APIKey = self.create(
                id=key_id or uuid.uuid4(),
                organization=organization,
                name=name,
                prefix=secret[:DISPLAY_LENGTH],
                digest=digest(secret),
                created_by=user,
            )
            keys_changed.send(sender=APIKey, organization=organization)
        return key, secret


class APIKey(models.Model):
    """A customer's key. Only its SHA-256 and its first characters are kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=DISPLAY_LENGTH)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = APIKeyManager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None

    def revoke(self) -> None:
        """Refuse the key from the next call on, in every process. Revoking it again changes nothing."""
        with transaction.atomic():
            lock_entitlement(self.organization)
            if APIKey.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=clock.now()):
                keys_changed.send(sender=APIKey, organization=self.organization)
        self.refresh_from_db(fields=["revoked_at"])
