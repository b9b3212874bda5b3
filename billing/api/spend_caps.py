"""The caller's own caps on what goes beyond the plan."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import BillingView, StrictSerializer, checked
from billing.api.fields import SLUG, CurrencyField
from billing.api.problems import READING, problems
from billing.buyers import know_buyer
from billing.models import Meter
from billing.spend_caps import MOST, CapState, cap_state, remove_spend_cap, set_spend_cap

MINOR = "In the currency's minor unit: 5000 is $50.00."
TAGS = ["spend caps"]


class SpendCapRequestSerializer(StrictSerializer):
    amount = serializers.IntegerField(
        min_value=0,
        max_value=MOST,
        help_text=f"What a period may cost beyond the plan's fee, before taxes and discounts. {MINOR} "
        "0: only what the plan includes.",
    )
    currency = CurrencyField(
        required=False, help_text="ISO 4217, in small letters. Left out: what you are billed in."
    )


class SpendCapSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    amount = serializers.IntegerField(help_text=MINOR)
    currency = serializers.CharField()
    stops_at = serializers.IntegerField(
        allow_null=True,
        help_text="The period's last unit that is let through, included ones counted. Null: the cap stops "
        "nothing, because the plan bills no overage or no number of units costs so much.",
    )
    message = serializers.CharField(help_text="What the cap does, in a sentence.")


def represent(state: CapState) -> dict[str, Any]:
    if state.cap is None:
        raise NotFound("There is no spend cap for this meter.")
    return {
        "meter": state.meter.slug,
        "amount": state.cap.amount,
        "currency": state.cap.currency,
        "stops_at": state.stops_at,
        "message": state.sentence,
    }


class SpendCaps(BillingView):
    def meter(self) -> Meter:
        slug = str(self.kwargs["meter"])
        found = Meter.objects.filter(slug=slug).first() if SLUG.fullmatch(slug) else None
        if found is None:
            raise NotFound("There is no such meter.")
        return found

    @extend_schema(
        operation_id="retrieve_spend_cap",
        summary="Your spend cap for a meter",
        responses={200: SpendCapSerializer, **problems(*READING, "not_found")},
        tags=TAGS,
    )
    def get(self, request: Request, meter: str) -> Response:
        return Response(SpendCapSerializer(represent(cap_state(self.organization, self.meter()))).data)

    @extend_schema(
        operation_id="set_spend_cap",
        summary="Set your spend cap for a meter",
        description="Calls that would cost more are refused with `spend_cap_reached`. It holds from the next call "
        "on. Sent again it changes nothing, so it needs no Idempotency-Key.",
        request=SpendCapRequestSerializer,
        responses={200: SpendCapSerializer, **problems(*READING, "invalid", "not_found")},
        tags=TAGS,
    )
    def put(self, request: Request, meter: str) -> Response:
        found, asked = self.meter(), checked(SpendCapRequestSerializer, request.data)
        currency = self.currency_of(asked.get("currency"))
        set_spend_cap(self.organization, found, amount=asked["amount"], currency=currency)
        return Response(SpendCapSerializer(represent(cap_state(self.organization, found))).data)

    @extend_schema(
        operation_id="remove_spend_cap",
        summary="Remove your spend cap for a meter",
        description="Where there is none, nothing happens.",
        responses={204: None, **problems(*READING, "not_found")},
        tags=TAGS,
    )
    def delete(self, request: Request, meter: str) -> Response:
        remove_spend_cap(self.organization, self.meter())
        return Response(status=204)

    def currency_of(self, asked: str | None) -> str:
        """Return the cap's currency. Raises ValidationError where it is not the one that is billed in, or unknown."""
        billed = know_buyer(self.organization).currency
        if asked and billed and asked != billed:
            raise serializers.ValidationError({"currency": [f"You are billed in {billed}."]})
        if not (asked or billed):
            raise serializers.ValidationError(
                {"currency": ["Say which: you are not billed in any currency yet."]}
            )
        return str(asked or billed)
