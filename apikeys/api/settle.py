"""What a reserved call did cost, said by the server that has served it."""

from typing import Any

from django.core import signing
from django.db import InterfaceError, OperationalError
from drf_spectacular.utils import extend_schema, inline_serializer
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys import reservation_settlement
from apikeys.api.gateway import STATUS
from apikeys.api.service import HasServiceScope, ServiceTokenAuthentication
from apikeys.api.verify import ENDPOINT_FORM, METHOD_FORM
from apikeys.decision import Decision, Verdict
from apikeys.errors import ReservationExpired, ReservationOver
from apikeys.models import ServiceToken
from apikeys.problems import Problem
from apikeys.refusals import refusal
from apikeys.reservation_settlement import Outcome
from apikeys.reservations import Reservation
from billing.api.base import StrictSerializer, checked
from billing.api.problems import OTHERS, problems
from usage.outage import outage


class SettleSerializer(StrictSerializer):
    reservation = serializers.CharField(max_length=2000, help_text="As the verification gave it.")
    units = serializers.IntegerField(
        min_value=0,
        required=False,
        help_text="What the call did cost, of what is reserved. Left out: all; after an error, nothing.",
    )
    status = serializers.IntegerField(
        min_value=100,
        max_value=599,
        required=False,
        help_text="What the API answered. After 5xx and 429 everything is given back.",
    )
    endpoint = serializers.RegexField(ENDPOINT_FORM, max_length=200, required=False)
    method = serializers.RegexField(METHOD_FORM, max_length=10, required=False)
    response_ms = serializers.IntegerField(min_value=0, max_value=2_147_483_647, default=0)

    def validate_reservation(self, value: str) -> Reservation:
        try:
            return Reservation.from_token(value)
        except signing.BadSignature as error:
            raise serializers.ValidationError("This is no reservation of Tollgate's.") from error

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        reserved = attrs["reservation"].cost
        if attrs.get("units", 0) > reserved:
            raise serializers.ValidationError({"units": [f"Only {reserved} are reserved."]})
        return attrs


ANSWER = inline_serializer(
    "Settlement",
    {
        "units": serializers.IntegerField(help_text="Billed for the call."),
        "given_back": serializers.IntegerField(help_text="Of what was reserved."),
        "meter": serializers.CharField(),
        "organization": serializers.CharField(),
        "livemode": serializers.BooleanField(help_text="False for a test key: never billed."),
    },
)


class Settle(APIView):
    """Bills what a reserved call did cost, and gives the rest back. Safe to repeat."""

    authentication_classes = [ServiceTokenAuthentication]
    permission_classes = [HasServiceScope]
    throttle_classes = []
    service_scope = ServiceToken.Scope.VERIFY

    @extend_schema(
        operation_id="keys_verify_settle",
        summary="Settle a call that was verified with `reserve`",
        request=SettleSerializer,
        responses={
            200: ANSWER,
            **problems(
                "invalid",
                "invalid_service_token",
                "insufficient_scope",
                "reservation_settled",
                "reservation_expired",
                "gate_unavailable",
            ),
        },
        tags=["gateway"],
    )
    def post(self, request: Request) -> Response:
        asked = checked(SettleSerializer, request.data)
        reservation: Reservation = asked["reservation"]
        reserved, status = reservation.event, asked.get("status", STATUS)
        units = reservation_settlement.units_due(reservation, units=asked.get("units"), status=status)
        outcome = Outcome(
            units=units,
            status=status,
            endpoint=asked.get("endpoint", reserved.endpoint),
            method=asked.get("method", reserved.method).upper(),
            response_ms=asked["response_ms"],
        )
        if outage.is_on:
            raise refusal(Decision(Verdict.UNAVAILABLE))
        try:
            reservation_settlement.settle(reservation, outcome)
        except ReservationOver as error:
            raise over(error) from error
        except (RedisError, OperationalError, InterfaceError) as error:
            if isinstance(error, RedisError):
                outage.begin()
            raise refusal(Decision(Verdict.UNAVAILABLE)) from error
        return Response(
            {
                "units": units,
                "given_back": reservation.cost - units,
                "meter": reserved.meter,
                "organization": reservation.ref,
                "livemode": reservation.livemode,
            },
            headers={"Cache-Control": "no-store"},
        )


def over(error: ReservationOver) -> Problem:
    kind, *_ = OTHERS[
        "reservation_expired" if isinstance(error, ReservationExpired) else "reservation_settled"
    ]
    return Problem(
        status=kind.status,
        code=kind.code,
        title=kind.title,
        detail=str(error),
        members={"units": error.units},
    )
