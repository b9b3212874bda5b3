"""The public API's views."""

from django.utils.decorators import method_decorator
from django_ratelimit.decorators import ratelimit
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.models import Plan


class Echo(APIView):
    """The sample product, to be replaced by your own: answers with what it was asked."""

    @extend_schema(
        responses=inline_serializer(
            "Echo",
            {
                "message": serializers.CharField(),
                "method": serializers.CharField(),
                "query": serializers.DictField(child=serializers.ListField(child=serializers.CharField())),
            },
        )
    )
    def get(self, request: Request) -> Response:
        return Response(
            {
                "message": "Hello from behind the tollgate.",
                "method": request.method,
                "query": dict(request.GET.lists()),
            }
        )


class PlanSerializer(serializers.ModelSerializer[Plan]):
    quotas = serializers.SerializerMethodField(
        help_text="Units included a period by meter; null is unlimited."
    )
    prices = serializers.SerializerMethodField(help_text="Amounts in the currency's minor unit.")

    class Meta:
        model = Plan
        fields = ["slug", "name", "description", "rate_per_minute", "quotas", "prices"]

    def get_quotas(self, plan: Plan) -> dict[str, int | None]:
        return {quota.meter.slug: quota.included for quota in plan.quotas.all()}

    def get_prices(self, plan: Plan) -> list[dict[str, str | int]]:
        return [
            {"currency": price.currency, "interval": price.interval, "unit_amount": price.unit_amount}
            for price in plan.prices.all()
            if price.meter_id is None
        ]


class NoSuchEndpoint(APIView):
    """Answers every address under the API that nothing else does: 404, as a problem and not as a page."""

    authentication_classes = []
    permission_classes = [AllowAny]
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        raise NotFound("There is nothing at this address; /api/docs/ lists what there is.")


@method_decorator(ratelimit(key="ip", rate="60/m"), name="dispatch")
class Plans(APIView):
    """The plans on offer."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(responses=PlanSerializer(many=True))
    def get(self, request: Request) -> Response:
        plans = Plan.objects.public().prefetch_related("quotas__meter", "prices")
        return Response({"data": PlanSerializer(plans, many=True).data})
