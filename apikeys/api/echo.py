"""The public API's views."""

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.problems import problems


class Echo(APIView):
    """The sample product, to be replaced by your own: answers with what it was asked."""

    @extend_schema(
        operation_id="echo",
        summary="The sample product: answers with what it was asked",
        responses={
            200: inline_serializer(
                "Echo",
                {
                    "message": serializers.CharField(),
                    "method": serializers.CharField(),
                    "query": serializers.DictField(
                        child=serializers.ListField(child=serializers.CharField())
                    ),
                },
            ),
            **problems(
                "invalid_key",
                "expired_key",
                "suspended",
                "address_not_allowed",
                "not_in_plan",
                "rate_limited",
                "quota_exceeded",
                "spend_cap_reached",
                "gate_unavailable",
            ),
        },
        tags=["echo"],
    )
    def get(self, request: Request) -> Response:
        return Response(
            {
                "message": "Hello from behind the tollgate.",
                "method": request.method,
                "query": dict(request.GET.lists()),
            }
        )


class NoSuchEndpoint(APIView):
    """Answers every address under the API that nothing else does: 404, as a problem and not as a page."""

    authentication_classes = []
    permission_classes = [AllowAny]
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        raise NotFound("There is nothing at this address; /api/docs/ lists what there is.")
