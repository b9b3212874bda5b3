from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django_ratelimit.core import is_ratelimited
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import Organization

WRITES = "60/m"


class BillingView(APIView):
    """A view about the caller's own plan and money.

    It costs no quota and stays open to who has not paid, though each call counts in the minute's rate.
    """

    gate_cost = 0

    @cached_property
    def organization(self) -> Organization:
        """The tenant: every look-up starts from it."""
        organization: Organization = self.request.user.organization  # type: ignore[union-attr]
        return organization

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Unlimited plans have no rate, and each write is several calls to Stripe.
        is_write = request.method not in {"GET", "HEAD", "OPTIONS"}
        if is_write and is_ratelimited(
            request._request, group="billing.api", key=self.rate_key, rate=WRITES, increment=True
        ):
            raise exceptions.Throttled(wait=60)

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"  # Client secrets and addresses that let their bearer in.
        return response

    def rate_key(self, group: str, request: Any) -> str:
        return str(self.organization.pk)


class StrictSerializer(serializers.Serializer[Any]):
    """What a client sends: a field that we do not know is refused, or a misspelt one would be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, Mapping) else []
        if unknown:
            raise serializers.ValidationError({name: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


def checked(serializer: type[StrictSerializer], data: Any) -> dict[str, Any]:
    """Return what the client sent, checked. Raises ValidationError."""
    bound = serializer(data=data)
    bound.is_valid(raise_exception=True)
    values: dict[str, Any] = bound.validated_data
    return values
