"""The first key, which comes by itself: who has none is offered one, and gets it once."""

from django.db import transaction

from accounts.models import Organization, User
from apikeys.models import APIKey
from billing.entitlements import lock_entitlement

NAME = "First key"


def lacks_key(organization: Organization) -> bool:
    """Whether the organization has no live key that works."""
    return not APIKey.objects.active().filter(organization=organization, mode=APIKey.Mode.LIVE).exists()


def issue_first_key(organization: Organization, *, user: User | None) -> tuple[APIKey, str] | None:
    """Create the organization's first key, with its secret; None where it has one. Of several at once one gets it.

    Raises KeyLimitReached (its test keys may fill the plan's limit) and RedisError.
    """
    with transaction.atomic():
        lock_entitlement(organization)
        if not lacks_key(organization):
            return None
        key, secret = APIKey.objects.issue(organization=organization, name=NAME, user=user)
    return key, secret
