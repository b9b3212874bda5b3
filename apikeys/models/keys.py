import uuid

from django.db import models, transaction
from django.db.models import Q

from accounts import clock
from accounts.models import Organization, User
from apikeys.secret import DISPLAY_LENGTH, digest, new_secret
from apikeys.signals import keys_changed
from billing.entitlements import lock_entitlement
from billing.models.plans import at_least_one


class AlreadyIssued(Exception):
    """The request to make this key has been carried out before."""


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def active(self) -> "APIKeyQuerySet":
        """Those that are neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()))

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
    """A customer's key. Only its SHA-256 and its first characters are kept.

    A test key works as a live one does and is never billed: its calls count in the rate, and in a quota of
    the same size that is its own. `scopes` empty allows everything; `allowed_networks` empty allows every address.
    """

    class Mode(models.TextChoices):
        LIVE = "live", "Live"
        TEST = "test", "Test"

    class RevokedFor(models.TextChoices):
        CUSTOMER = "customer", "By the customer"
        STAFF = "staff", "By staff"
        LEAK = "leak", "Reported as leaked"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=DISPLAY_LENGTH)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_for = models.CharField(max_length=10, choices=RevokedFor, blank=True, editable=False)
    mode = models.CharField(max_length=4, choices=Mode, default=Mode.LIVE, editable=False)
    scopes = models.JSONField(default=list, blank=True, help_text="What it may do. Empty: everything.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until it is revoked.")
    allowed_networks = models.JSONField(
        default=list,
        blank=True,
        help_text="Addresses it may be used from, as CIDR networks of IPv4 or IPv6. Empty: from everywhere.",
    )
    rate_per_minute = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[at_least_one],
        help_text="Calls of this key admitted in any 60 seconds. Empty: as many as the plan allows.",
    )
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Rotation: the successor, and when it was made. Until `expires_at` both work and share one quota.
    replaced_by = models.OneToOneField(
        "self", models.SET_NULL, null=True, blank=True, editable=False, related_name="replaces"
    )
    replaced_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = APIKeyManager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(mode__in=["live", "test"]), name="apikey_mode_known"),
            models.CheckConstraint(
                condition=Q(rate_per_minute=None) | Q(rate_per_minute__gte=1), name="apikey_rate_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and not self.is_expired

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()

    def revoke(self) -> None:
        """Refuse the key from the next call on, in every process. Revoking it again changes nothing."""
        with transaction.atomic():
            lock_entitlement(self.organization)
            if APIKey.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=clock.now()):
                keys_changed.send(sender=APIKey, organization=self.organization)
        self.refresh_from_db(fields=["revoked_at"])
