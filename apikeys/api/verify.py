"""The gate for any language: a key is asked about by the server that it was sent to."""

import math
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apikeys.about import About, find_about
from apikeys.api.gateway import STATUS
from apikeys.api.service import HasServiceScope, ServiceTokenAuthentication
from apikeys.calls import Call, settle
from apikeys.decision import Decision, Verdict
from apikeys.gate import admit
from apikeys.models import ServiceToken
from apikeys.refusals import refusal, told
from apikeys.reservations import Hold, Reservation
from apikeys.terms import COST, METER
from billing.api.base import StrictSerializer, checked
from billing.api.problems import problems

ENDPOINT = "verify"
ENDPOINT_FORM = r"^[\x20-\x7e]+\Z"
METHOD_FORM = r"^[A-Za-z]+\Z"


class VerifySerializer(StrictSerializer):
    key = serializers.CharField(max_length=1000, trim_whitespace=False, help_text="As the client sent it.")
    meter = serializers.RegexField(r"^[a-z][a-z0-9_]{0,39}\Z", default=METER)
    cost = serializers.IntegerField(
        min_value=0,
        max_value=999_999_999,
        default=COST,
        help_text="Units to charge. 0 only verifies: nothing is charged, and the rate counts nothing.",
    )
    scopes = serializers.ListField(
        child=serializers.RegexField(r"^[\x21\x23-\x5b\x5d-\x7e]+\Z"), default=list, max_length=50
    )
    address = serializers.IPAddressField(
        required=False, help_text="The client's, for keys bound to networks."
    )
    endpoint = serializers.RegexField(ENDPOINT_FORM, max_length=200, default=ENDPOINT)
    method = serializers.RegexField(METHOD_FORM, max_length=10, default="")

    reserve = serializers.BooleanField(
        default=False,
        help_text="The cost is the most that the call may cost: settle later what it did. Without, it is billed now.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["reserve"] and not attrs["cost"]:
            raise serializers.ValidationError({"cost": ["Reserve 1 unit or more."]})
        return attrs

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and any(len(name) > 20 for name in data):
            # Names are repeated in the error, and this one may be the key.
            raise serializers.ValidationError({"key": ["One of the fields sent has no name of ours."]})
        return super().to_internal_value(data)


class LimitSerializer(serializers.Serializer[Any]):
    policy = serializers.CharField()
    limit = serializers.IntegerField()
    window = serializers.IntegerField(help_text="Seconds.")
    remaining = serializers.IntegerField()
    reset = serializers.IntegerField(help_text="Seconds until more is allowed.")


ANSWER = inline_serializer(
    "Verification",
    {
        "valid": serializers.BooleanField(help_text="Serve the call."),
        "code": serializers.ChoiceField(
            [str(verdict) for verdict in Verdict if verdict != Verdict.UNAVAILABLE]
        ),
        "detail": serializers.CharField(allow_null=True, help_text="Why not: a sentence for people."),
        "organization": serializers.CharField(allow_null=True),
        "key_id": serializers.UUIDField(allow_null=True),
        "name": serializers.CharField(allow_null=True),
        "plan": serializers.CharField(allow_null=True),
        "livemode": serializers.BooleanField(
            allow_null=True, help_text="False for a test key: never billed."
        ),
        "scopes": serializers.ListField(child=serializers.CharField(), allow_null=True),
        "meter": serializers.CharField(),
        "used": serializers.IntegerField(allow_null=True, help_text="This period, with this call."),
        "remaining": serializers.IntegerField(allow_null=True, help_text="Null: no end."),
        "limits": LimitSerializer(many=True),
        "runs_out_at": serializers.DateTimeField(allow_null=True),
        "policy": serializers.CharField(allow_null=True, help_text="The limit that refused."),
        "retry_after": serializers.IntegerField(allow_null=True, help_text="Seconds."),
        "next_plan": serializers.DictField(allow_null=True, help_text="slug, name and limit."),
        "reservation": serializers.CharField(
            allow_null=True, help_text="What to settle, where one was asked."
        ),
        "settle_by": serializers.DateTimeField(allow_null=True, help_text="Then it is billed in full."),
    },
)


class Verify(APIView):
    """Decides about a key that was sent to another server, and charges the call where it is valid."""

    authentication_classes = [ServiceTokenAuthentication]
    permission_classes = [HasServiceScope]
    throttle_classes = []
    service_scope = ServiceToken.Scope.VERIFY

    @extend_schema(
        operation_id="keys_verify",
        summary="Verify a key, and charge a call to it",
        request=VerifySerializer,
        responses={
            200: ANSWER,
            **problems("invalid", "invalid_service_token", "insufficient_scope", "gate_unavailable"),
        },
        tags=["gateway"],
    )
    def post(self, request: Request) -> Response:
        asked = checked(VerifySerializer, request.data)
        endpoint, method = asked["endpoint"], asked["method"].upper()
        decision = admit(
            asked["key"],
            meter=asked["meter"],
            cost=asked["cost"],
            scopes=asked["scopes"],
            address=asked.get("address", ""),
            counted=asked["cost"] > 0,
            hold=Hold.of(endpoint=endpoint, method=method) if asked["reserve"] else None,
        )
        if decision.verdict is Verdict.UNAVAILABLE:
            raise refusal(decision)
        if not asked["reserve"]:
            settle(Call(decision), status=STATUS, endpoint=endpoint, method=method, response_ms=0)
        return Response(
            answer(decision, meter=asked["meter"], scopes=asked["scopes"]),
            headers={"Cache-Control": "no-store"},
        )


def answer(decision: Decision, *, meter: str, scopes: list[str]) -> dict[str, Any]:
    problem = None if decision.admitted else refusal(decision, scopes=scopes)
    known = decision.is_known
    about = find_about(decision) if known else About()
    has_limits = decision.has_limits and not decision.is_degraded
    ends = decision.runs_out_at if has_limits else None
    held = Reservation.read(decision.ref, decision.reservation) if decision.reservation else None
    units = [limit.remaining for limit in decision.limits if limit.policy in {"period", "spend_cap"}]
    return {
        "valid": decision.admitted,
        "code": decision.reason,
        "detail": str(problem.detail) if problem else None,
        "organization": decision.ref if known else None,
        "key_id": str(decision.api_key_id) if known else None,
        "livemode": decision.livemode if known else None,
        **about._asdict(),
        "meter": meter,
        "used": decision.used if has_limits else None,
        "remaining": min(units, default=None),
        "limits": [limit._asdict() | {"reset": math.ceil(limit.reset)} for limit in decision.limits],
        "runs_out_at": told(ends) if ends else None,
        "policy": decision.policy or None,
        "retry_after": problem.members.get("retry_after") if problem else None,
        "next_plan": problem.members.get("next_plan") if problem else None,
        "reservation": held.token if held else None,
        "settle_by": held.due.isoformat(timespec="milliseconds") if held else None,
    }
