"""What the endpoints of the keys take and answer."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from apikeys.models import APIKey
from apikeys.models.keys import LONGEST_OVERLAP
from apikeys.restrictions import HIGHEST_CAP, NAME_LENGTH, NETWORKS
from apikeys.sightings import find_sightings, last_use
from billing.api.base import StrictSerializer
from billing.invoices import PAGE

STATUSES = ["active", "replaced", "expired", "revoked"]
MOST_SECONDS = int(LONGEST_OVERLAP.total_seconds())
ONCE = "The key in full. Shown in this answer alone and stored nowhere: null where the request is sent again."


class KeyFieldsSerializer(StrictSerializer):
    name = serializers.CharField(max_length=NAME_LENGTH, help_text="Where the key is used.")
    scopes = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        help_text="What it may do. Empty: everything that your organization may.",
    )
    expires_at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        default_timezone=timezone.get_fixed_timezone(0),
        help_text="When it stops working, within ten years. Null: when it is revoked.",
    )
    allowed_networks = serializers.ListField(
        child=serializers.CharField(max_length=100),
        required=False,
        help_text=f"Where it may be used from: at most {NETWORKS} addresses or CIDR networks. Empty: everywhere.",
    )
    rate_per_minute = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=HIGHEST_CAP,
        help_text="Calls of this key admitted in any 60 seconds. Null: as many as the plan allows.",
    )


class NewKeySerializer(KeyFieldsSerializer):
    mode = serializers.ChoiceField(
        APIKey.Mode.choices,
        default=APIKey.Mode.LIVE,
        help_text="`test`: its calls are never billed, and have a quota of the same size of their own.",
    )


class KeyChangeSerializer(KeyFieldsSerializer):
    name = serializers.CharField(required=False, max_length=NAME_LENGTH)


class RotationSerializer(StrictSerializer):
    overlap = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=MOST_SECONDS,
        help_text=f"Seconds for which the old key works as well, {MOST_SECONDS} at most. 0: it is revoked at once.",
    )

    def validate_overlap(self, seconds: int) -> timedelta:
        return timedelta(seconds=seconds)


class KeyPageQuerySerializer(StrictSerializer):
    limit = serializers.IntegerField(min_value=1, max_value=100, default=PAGE)
    cursor = serializers.UUIDField(
        required=False,
        help_text="`next_cursor` of the page before.",
        error_messages={"invalid": "This is no cursor of yours."},
    )


class KeySerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The first characters, by which you tell keys apart.")
    mode = serializers.ChoiceField(APIKey.Mode.choices)
    status = serializers.ChoiceField(
        STATUSES,
        help_text="`replaced`: it works until `expires_at`, beside its successor.",
    )
    scopes = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    allowed_networks = serializers.ListField(child=serializers.CharField())
    rate_per_minute = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(
        allow_null=True, help_text="Within a minute. Null: not that we know."
    )
    replaced_by = serializers.UUIDField(
        allow_null=True, help_text="The key that a rotation put in its place."
    )
    replaced_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    revoked_for = serializers.ChoiceField(
        [*APIKey.RevokedFor.choices, ""], help_text="Who had it revoked: you, our staff, or a finder."
    )


class IssuedKeySerializer(KeySerializer):
    secret = serializers.CharField(allow_null=True, help_text=ONCE)


class KeyPageSerializer(serializers.Serializer[Any]):
    data = KeySerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class.
    next_cursor = serializers.UUIDField(
        allow_null=True, help_text="Send it as `cursor` for the next page. Null: this is the last one."
    )


def represent(keys: Sequence[APIKey]) -> list[dict[str, Any]]:
    """Return keys as the API shows them, in one look at Redis."""
    sightings = find_sightings(keys, most=1)
    return [
        {
            "id": key.pk,
            "name": key.name,
            "prefix": key.prefix,
            "mode": key.mode,
            "status": key.status,
            "scopes": key.scopes,
            "expires_at": key.expires_at,
            "allowed_networks": key.allowed_networks,
            "rate_per_minute": key.rate_per_minute,
            "created_at": key.created_at,
            "last_used_at": last_use(key, sightings),
            "replaced_by": key.replaced_by_id,
            "replaced_at": key.replaced_at,
            "revoked_at": key.revoked_at,
            "revoked_for": key.revoked_for,
        }
        for key in keys
    ]
