import secrets
import string
import uuid
import zoneinfo
from functools import cache
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models.functions import Lower

from accounts import clock
from accounts.signals import organization_created

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
REF_LENGTH = 10


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        if not email:
            raise ValueError("A user needs an e-mail address.")
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Signs in with an e-mail address, which is unique whatever its case."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("e-mail address", unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_staff = models.BooleanField("staff", default=False, help_text="May sign in to the back office.")
    is_active = models.BooleanField(
        "active", default=True, help_text="Clear this instead of deleting a user."
    )
    date_joined = models.DateTimeField(default=clock.now)

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_unique")]

    def __str__(self) -> str:
        return self.email

    def get_short_name(self) -> str:
        return self.name or self.email

    get_full_name = get_short_name


def new_ref() -> str:
    """Return ten random base62 characters: public, but not to be guessed or counted."""
    return "".join(secrets.choice(BASE62) for _ in range(REF_LENGTH))


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones. They are looked for once: that opens hundreds of files."""
    # Neither names a place: the one is what this machine is set to, the other what it was before that.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def validate_time_zone(value: str) -> None:
    if value not in time_zones():
        raise ValidationError(f"“{value}” is not a time zone; one is Europe/Berlin.")


class OrganizationManager(models.Manager["Organization"]):
    def open(self, *, name: str, owner: User) -> "Organization":
        """Create an organization with its owner. The other apps hear of it in the same transaction."""
        with transaction.atomic():
            organization = self.create(name=name, email=owner.email)
            organization.memberships.create(user=owner, role=Role.OWNER)
            organization_created.send(sender=Organization, organization=organization)
        return organization


class Organization(models.Model):
    """The billable tenant: what dj-stripe calls the subscriber."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    ref = models.CharField(
        max_length=REF_LENGTH,
        unique=True,
        default=new_ref,
        editable=False,
        help_text="Public and stable. It is part of every API key and names the organization in Redis.",
    )
    name = models.CharField(max_length=150)
    email = models.EmailField("billing e-mail", help_text="Where invoices and payment notices go.")
    time_zone = models.CharField(max_length=64, default="UTC", validators=[validate_time_zone])
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = OrganizationManager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ref__regex=r"^[0-9A-Za-z]{10}$"), name="organization_ref_base62"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    BILLING = "billing", "Billing"
    DEVELOPER = "developer", "Developer"

    @property
    def manages_billing(self) -> bool:
        return self in {Role.OWNER, Role.ADMIN, Role.BILLING}

    @property
    def manages_keys(self) -> bool:
        return self in {Role.OWNER, Role.ADMIN, Role.DEVELOPER}


class Membership(models.Model):
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_unique"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.organization} ({self.get_role_display()})"

    def get_role(self) -> Role:
        return Role(self.role)
