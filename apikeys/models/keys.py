import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Q

from accounts import clock
from accounts.models import Organization, User
from apikeys.errors import AlreadyIssued, InvalidRestriction, KeyLimitReached, KeyNotActive
from apikeys.restrictions import NAME_LENGTH, checked
from apikeys.secret import DISPLAY_LENGTH, digest, new_secret
from apikeys.signals import keys_changed
from billing.entitlements import lock_entitlement, refresh_entitlement
from billing.models import Entitlement
from billing.models.plans import at_least_one

# Rows are locked in one order, so that two drains cannot wait for each other.
NOTE_USE = """
WITH moved AS (
    SELECT apikeys_apikey.id, served.at
    FROM apikeys_apikey JOIN unnest(%s::uuid[], %s::timestamptz[]) AS served (id, at) USING (id)
    WHERE last_used_at IS NULL OR last_used_at < served.at - interval '1 minute'
    ORDER BY id FOR NO KEY UPDATE OF apikeys_apikey
)
UPDATE apikeys_apikey SET last_used_at = greatest(last_used_at, moved.at) FROM moved WHERE apikeys_apikey.id = moved.id
"""
# How long an old key may work beside its successor, counted from now.
LONGEST_OVERLAP = timedelta(days=30)


class APIKeyQuerySet(models.QuerySet["APIKey"]):
    def active(self) -> "APIKeyQuerySet":
        """Those that are neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()))

    def counted(self) -> "APIKeyQuerySet":
        """Those that count in the plan's limit: an old one whose successor works beside it does not."""
        without_successor = Q(replaced_by=None) | Q(replaced_by__revoked_at__isnull=False)
        return self.active().filter(without_successor | Q(replaced_by__expires_at__lte=clock.now()))

    def active_first(self) -> "APIKeyQuerySet":
        is_over = models.Case(
            models.When(Q(revoked_at__isnull=False) | Q(expires_at__lte=clock.now()), then=1), default=0
        )
        return self.order_by(is_over, "-created_at", "id")


class APIKeyManager(models.Manager.from_queryset(APIKeyQuerySet)):  # type: ignore[misc]
    def issue(
        self,
        *,
        organization: Organization,
        name: str,
        user: User | None = None,
        key_id: uuid.UUID | None = None,
        mode: str = "live",
        scopes: Iterable[str] = (),
        expires_at: datetime | None = None,
        allowed_networks: Iterable[str] = (),
        rate_per_minute: int | None = None,
    ) -> tuple["APIKey", str]:
        """Create a key. The secret is returned once and never stored.

        `key_id`, where given, names the request to make one: the second time raises AlreadyIssued. Raises
        InvalidRestriction, KeyLimitReached, and RedisError, in which case there is no key.
        """
        fields = checked(
            {
                "name": name,
                "scopes": scopes,
                "expires_at": expires_at,
                "allowed_networks": allowed_networks,
                "rate_per_minute": rate_per_minute,
            }
        )
        with transaction.atomic():
            entitlement = lock_entitlement(organization)
            check_unknown(key_id)
            check_room(organization, entitlement)
            key, secret = self.mint(
                organization=organization, user=user, key_id=key_id, mode=APIKey.Mode(mode), **fields
            )
            keys_changed.send(sender=APIKey, organization=organization)
        return key, secret

    def mint(
        self, *, organization: Organization, user: User | None, key_id: uuid.UUID | None, **fields: Any
    ) -> tuple["APIKey", str]:
        """Write a new key with its secret, with no question asked. Part of a transaction that holds the lock."""
        secret = new_secret(organization.ref, mode=fields["mode"])
        key: APIKey = self.create(
            id=key_id or uuid.uuid4(),
            organization=organization,
            prefix=secret[:DISPLAY_LENGTH],
            digest=digest(secret),
            created_by=user,
            **fields,
        )
        return key, secret

    def note_use(self, last_served: Mapping[uuid.UUID, datetime]) -> None:
        """Move `last_used_at` on, where it moves by more than a minute: no write for each call."""
        if not last_served:
            return
        with connection.cursor() as cursor:
            cursor.execute(NOTE_USE, [list(last_served), list(last_served.values())])


def check_unknown(key_id: uuid.UUID | None) -> None:
    if key_id and APIKey.objects.filter(pk=key_id).exists():
        raise AlreadyIssued(f"Key {key_id} exists.")


def check_room(organization: Organization, entitlement: Entitlement) -> None:
    """Raise KeyLimitReached where the plan allows no further key. With the entitlement's row locked."""
    if clock.now() >= entitlement.valid_until:
        entitlement = refresh_entitlement(organization)
    limit = entitlement.api_key_limit
    if limit is not None and APIKey.objects.counted().filter(organization=organization).count() >= limit:
        keys = f"{limit:,} active API key{'' if limit == 1 else 's'}"
        raise KeyLimitReached(
            f"{entitlement.plan.name} includes {keys}: revoke one, or choose a larger plan.", limit=limit
        )


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
    name = models.CharField(max_length=NAME_LENGTH)
    prefix = models.CharField(max_length=DISPLAY_LENGTH)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_for = models.CharField(max_length=10, choices=RevokedFor, blank=True, editable=False)
    leak_told_at = models.DateTimeField(
        null=True, editable=False, help_text="When the e-mail about its leak was taken up to be sent."
    )
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
    def is_live(self) -> bool:
        return self.mode == self.Mode.LIVE

    @property
    def is_active(self) -> bool:
        return self.revoked_at is None and not self.is_expired

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= clock.now()

    @property
    def status(self) -> str:
        """One of active, replaced (it works until `expires_at`), expired and revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if self.is_expired:
            return "expired"
        return "active" if self.replaced_by_id is None else "replaced"

    def change(self, **changes: Any) -> None:
        """Change any of `restrictions.CHECKS`; the next call is decided by it, in every process.

        Raises InvalidRestriction, KeyNotActive, and RedisError, in which case nothing is changed.
        """
        fields = checked(changes)
        with transaction.atomic():
            lock_entitlement(self.organization)
            self.get_active()
            if "expires_at" in fields:
                self.check_end(fields["expires_at"])
            APIKey.objects.filter(pk=self.pk).update(**fields)
            keys_changed.send(sender=APIKey, organization=self.organization)
        self.refresh_from_db(fields=[*fields])

    def get_active(self) -> "APIKey":
        """Return the row as it is now. Raises KeyNotActive. With the entitlement's row locked."""
        now = APIKey.objects.get(pk=self.pk)
        if not now.is_active:
            raise KeyNotActive(f"“{now.name}” is {now.status}, which is final. Create another key.")
        self.replaced_by_id = now.replaced_by_id
        return now

    def check_end(self, expires_at: datetime | None) -> None:
        """Raise InvalidRestriction where a replaced key would be given back a life without its end."""
        if self.replaced_by_id is None:
            return
        if expires_at is None or expires_at > clock.now() + LONGEST_OVERLAP:
            raise InvalidRestriction(
                "expires_at",
                f"This key has been replaced: it may work for {LONGEST_OVERLAP.days} more days at most.",
            )

    def revoke(self, *, revoked_for: str = RevokedFor.CUSTOMER) -> bool:
        """Refuse the key from the next call on, in every process. False where it was revoked before.

        Raises RedisError, in which case it is not revoked.
        """
        with transaction.atomic():
            lock_entitlement(self.organization)
            standing = APIKey.objects.filter(pk=self.pk, revoked_at=None)
            is_news = bool(standing.update(revoked_at=clock.now(), revoked_for=revoked_for))
            if is_news:
                keys_changed.send(sender=APIKey, organization=self.organization)
        self.refresh_from_db(fields=["revoked_at", "revoked_for"])
        return is_news
