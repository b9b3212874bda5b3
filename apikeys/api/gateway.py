"""The gate for a proxy: one request for each that the proxy has in hand."""

import ipaddress
import json
import re
from typing import Any, NamedTuple

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.addresses import client_address
from apikeys.api.service import HasServiceScope, ProxyTokenAuthentication
from apikeys.calls import Call, settle
from apikeys.decision import KEY, Decision, Verdict
from apikeys.drf import bearer_token
from apikeys.gate import admit
from apikeys.headers import rate_headers
from apikeys.models import ServiceToken
from apikeys.problems import CHALLENGE, Problem, body
from apikeys.refusals import refusal
from apikeys.service_access import ServiceAccess
from apikeys.terms import COST, METER
from billing.api.problems import problems

METER_FORM = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
COST_FORM = re.compile(r"\d{1,9}", re.ASCII)
SCOPES_FORM = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{0,1000}")  # RFC 6749, 3.3.
ENDPOINT_FORM = re.compile(r"[\x20-\x7e]{1,200}")
# The ledger's endpoint and status where nobody says better: what the proxied server answers is not known here.
ENDPOINT = "gateway"
STATUS = 0
# What nginx's auth_request can pass on besides success: any other answer is a 500 of its own.
KNOWN_TO_AUTH_REQUEST = {200, 401, 403}


class Asked(NamedTuple):
    """What a proxy's configuration says of the request in hand."""

    meter: str
    cost: int
    scopes: tuple[str, ...]
    address: str
    endpoint: str
    method: str


class Authorize(APIView):
    """Decides about a request that a proxy has in hand, charges it, and puts it into the ledger."""

    authentication_classes = [ProxyTokenAuthentication]
    permission_classes = [HasServiceScope]
    throttle_classes = []
    service_scope = ServiceToken.Scope.AUTHORIZE

    @extend_schema(
        operation_id="gateway_authorize",
        summary="Let a request that a proxy has in hand in, or refuse it",
        description="For nginx auth_request, Caddy forward_auth, Traefik ForwardAuth and Envoy ext_authz. "
        "Authorization is the caller's, as the client sent it. Any method will do.",
        parameters=[
            OpenApiParameter(
                "X-Tollgate-Meter", str, "header", description="`requests` where there is none."
            ),
            OpenApiParameter("X-Tollgate-Cost", int, "header", description="Units; 1 where there is none."),
            OpenApiParameter("X-Tollgate-Scopes", str, "header", description="With spaces between."),
            OpenApiParameter("X-Tollgate-Address", str, "header", description="The client's IP address."),
            OpenApiParameter("X-Tollgate-Endpoint", str, "header", description="The route, for the ledger."),
            OpenApiParameter("X-Original-Method", str, "header", description="Or X-Forwarded-Method."),
            OpenApiParameter(
                "refuse",
                str,
                "query",
                enum=["403"],
                description="Refuse with 401 and 403 alone; X-Tollgate-Status and X-Tollgate-Problem tell more.",
            ),
        ],
        request=None,
        responses={
            200: OpenApiResponse(
                description="Let it in: X-Tollgate-Organization, -Key and -Mode say whose it is."
            ),
            **problems(
                "invalid",
                "invalid_key",
                "expired_key",
                "invalid_service_token",
                "suspended",
                "address_not_allowed",
                "insufficient_scope",
                "not_in_plan",
                "rate_limited",
                "quota_exceeded",
                "spend_cap_reached",
                "gate_unavailable",
            ),
        },
        tags=["gateway"],
    )
    def get(self, request: Request, **kwargs: object) -> HttpResponse:
        asked = read(request)
        secret = bearer_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if secret is None:
            raise Problem(
                status=401,
                code="not_authenticated",
                title="Not authenticated",
                detail="Send your API key as `Authorization: Bearer <key>`.",
                headers={"WWW-Authenticate": CHALLENGE},
            )
        decision = admit(
            secret,
            meter=asked.meter,
            cost=asked.cost,
            scopes=asked.scopes,
            address=asked.address,
        )
        if not decision.admitted:
            problem = refusal(decision, scopes=asked.scopes)
            problem.headers |= rate_headers(decision)
            raise problem
        settle(Call(decision), status=STATUS, endpoint=asked.endpoint, method=asked.method, response_ms=0)
        return HttpResponse(headers=let_in(decision))

    def http_method_not_allowed(self, request: Any, *args: object, **kwargs: object) -> Any:
        return self.get(request)  # A proxy may ask with the method of the request in hand, whatever it is.

    def options(self, request: Any, *args: object, **kwargs: object) -> Any:
        return self.get(request)

    def finalize_response(self, request: Request, response: Any, *args: object, **kwargs: object) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        if response.status_code != 200 and request.GET.get("refuse") == "403":
            for_auth_request(request, response)
        return response


def may_ask(request: Request) -> bool:
    return isinstance(request.auth, ServiceAccess) and Authorize.service_scope in request.auth.scopes


def read(request: Request) -> Asked:
    """Return what the proxy asks. Raises ValidationError, which names the header that is wrong.

    Only a service token gets here: these headers are believed because of it.
    """
    meta, errors = request.META, {}

    def find(header: str, form: re.Pattern[str], otherwise: str) -> str:
        value: str = meta.get(f"HTTP_{header.upper().replace('-', '_')}", "").strip()
        if value and not form.fullmatch(value):
            errors[header] = ["This is not what the header takes."]
        return value or otherwise

    meter = find("X-Tollgate-Meter", METER_FORM, METER)
    cost = find("X-Tollgate-Cost", COST_FORM, str(COST))
    scopes = find("X-Tollgate-Scopes", SCOPES_FORM, "")
    endpoint = find("X-Tollgate-Endpoint", ENDPOINT_FORM, ENDPOINT)
    address = meta.get("HTTP_X_TOLLGATE_ADDRESS", "").strip()
    try:
        address = str(ipaddress.ip_address(address)) if address else client_address(request._request)
    except ValueError:
        errors["X-Tollgate-Address"] = ["This is not an IP address."]
    if errors:
        raise ValidationError(errors)
    method = meta.get("HTTP_X_ORIGINAL_METHOD") or meta.get("HTTP_X_FORWARDED_METHOD") or request.method or ""
    return Asked(meter, int(cost), tuple(scopes.split()), address, endpoint, method.strip())


def let_in(decision: Decision) -> dict[str, str]:
    return {
        "X-Tollgate-Organization": decision.ref,
        "X-Tollgate-Key": str(decision.answer[KEY]),
        "X-Tollgate-Mode": "live" if decision.livemode else "test",
        **rate_headers(decision),
    }


def for_auth_request(request: Request, response: Response) -> None:
    """Put a refusal into headers, because nginx's auth_request drops bodies and knows 401 and 403 alone.

    A service token that is refused is no fault of the client's: it is told that the gate is out of reach.
    """
    content = response.data
    if not may_ask(request):
        problem = refusal(Decision(Verdict.UNAVAILABLE))
        content = body(
            status=problem.status_code,
            code=problem.code,
            title=problem.title,
            detail=str(problem.detail),
            request_id=content["request_id"],
            members=problem.members,
        )
        response["Retry-After"] = problem.headers["Retry-After"]
        del response["WWW-Authenticate"]
        response.status_code = content["status"]
    response["X-Tollgate-Status"] = str(content["status"])
    response["X-Tollgate-Problem"] = json.dumps(content)  # ASCII: a header may carry no more.
    if response.status_code not in KNOWN_TO_AUTH_REQUEST:
        response.status_code = 403
