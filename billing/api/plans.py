from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.problems import problems
from billing.models import Plan, PlanPrice
from billing.price_list import offered_plans


class FeeSerializer(serializers.Serializer[PlanPrice]):
    currency = serializers.CharField(help_text="ISO 4217, in small letters.")
    interval = serializers.ChoiceField(PlanPrice.Interval.choices, help_text="How often it is charged.")
    unit_amount = serializers.IntegerField(help_text="The fee in the currency's minor unit: 2900 is $29.00.")


class TierSerializer(serializers.Serializer[Any]):
    up_to = serializers.IntegerField(
        allow_null=True, help_text="The last unit at this price, included ones counted too. Null: all beyond."
    )
    unit_amount = serializers.DecimalField(
        max_digits=20,
        decimal_places=12,
        help_text="For each unit, in the currency's minor unit, fractions of it too: 0.2 is $0.002.",
    )


class OverageSerializer(serializers.Serializer[Any]):
    meter = serializers.CharField()
    currency = serializers.CharField()
    tiers = TierSerializer(many=True, help_text="Graduated: each unit costs what its own tier says.")


class PlanSerializer(serializers.Serializer[Plan]):
    slug = serializers.CharField(help_text="The plan's name in other calls.")
    name = serializers.CharField()
    description = serializers.CharField()
    rate_per_minute = serializers.IntegerField(
        allow_null=True, help_text="Calls in any 60 seconds. Null: unlimited."
    )
    burst = serializers.IntegerField(
        allow_null=True,
        help_text="Calls at once; after that they come back evenly over the minute. Null: all of a minute's.",
    )
    api_key_limit = serializers.IntegerField(
        allow_null=True, help_text="Active API keys that an organization may have. Null: unlimited."
    )
    trial_days = serializers.IntegerField(
        allow_null=True, help_text="Days before the first payment, once for each customer. Null: no trial."
    )
    quotas = serializers.DictField(
        child=serializers.IntegerField(allow_null=True),
        help_text="Units included a month, by meter. Null: unlimited.",
    )
    prices = FeeSerializer(many=True, help_text="What can be bought. Empty: the plan is not on sale.")
    overage = OverageSerializer(
        many=True, help_text="What units beyond the included ones cost. A meter not listed refuses them."
    )


def represent(plan: Plan) -> dict[str, Any]:
    prices = [price for price in plan.prices.all() if price.is_published]
    billed = {quota.meter_id for quota in plan.quotas.all() if quota.is_billed}
    return {
        "slug": plan.slug,
        "name": plan.name,
        "description": plan.description,
        "rate_per_minute": plan.rate_per_minute,
        "burst": plan.burst,
        "api_key_limit": plan.api_key_limit,
        "trial_days": plan.trial_days,
        "quotas": {quota.meter.slug: quota.included for quota in plan.quotas.all()},
        "prices": [price for price in prices if price.meter_id is None],
        "overage": [
            {"meter": price.meter.slug, "currency": price.currency, "tiers": price.tiers.all()}
            for price in prices
            if price.meter and price.meter_id in billed
        ],
    }


class PlanListSerializer(serializers.Serializer[Any]):
    data = PlanSerializer(many=True)  # type: ignore[assignment]  # DRF takes declared fields off the class.


class Plans(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="list_plans",
        summary="The plans on offer",
        description="Open to everybody, 60 calls a minute from one address.",
        responses={200: PlanListSerializer, **problems("too_many_requests")},
        tags=["plans"],
    )
    def get(self, request: Request) -> Response:
        plans = [represent(plan) for plan in offered_plans()]
        return Response(PlanListSerializer({"data": plans}).data)
