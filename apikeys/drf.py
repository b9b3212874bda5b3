"""The gate as a DRF authentication class.

class Forecast(APIView):          # With the project's defaults there is nothing to remember:
    gate_meter = "requests"       # these two lines are the defaults,
    gate_cost = 1                 # and 0 makes a view free of quota.
"""

from dataclasses import dataclass
from datetime import UTC
from uuid import UUID

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.addresses import client_address
from accounts.models import Organization
from apikeys.decision import Decision, Verdict
from apikeys.gate import admit
from apikeys.problems import CHALLENGE, Problem
from billing.models import Entitlement, Plan

KEY_LENGTH_LIMIT = 200


@dataclass(frozen=True, slots=True)
class APIClient:
    """The program behind an admitted call: what DRF calls the user."""

    organization_id: UUID
    api_key_id: UUID
    is_authenticated: bool = True

    @property
    def organization(self) -> Organization:
        return Organization.objects.get(pk=self.organization_id)


class GateAuthentication(BaseAuthentication):
    """Let a call in or refuse it: key, subscription, rate and quota at once, and charge the quota.

    It refuses by raising Problem: 401 for the key, 402 where a payment is missing, 429 for a limit, 503 where
    the gate cannot decide.
    """

    def authenticate(self, request: Request) -> tuple[APIClient, Decision] | None:
        secret = bearer_token(request.META.get("HTTP_AUTHORIZATION", ""))
        if secret is None:
            return None  # The permission class says no where the view needs a key.
        view = request.parser_context["view"] if request.parser_context else None
        meter = getattr(view, "gate_meter", "requests")
        decision = admit(
            secret,
            meter=meter,
            cost=getattr(view, "gate_cost", 1),
            address=client_address(request._request),
        )
        # For the middleware, which meters the answer and adds the rate headers, to a refusal's as well.
        request._request.gate_decision = decision  # type: ignore[attr-defined]
        if not decision.admitted:
            raise refusal(decision)
        return APIClient(decision.organization_id, decision.api_key_id), decision

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


def bearer_token(header: str) -> str | None:
    """Return the token of an `Authorization: Bearer …` header, or None where there is no header.

    Raises Problem where there is one that carries no Bearer token.
    """
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > KEY_LENGTH_LIMIT:
        raise Problem(
            status=401,
            code="invalid_key",
            title="Invalid API key",
            detail="Send your API key as `Authorization: Bearer <key>`.",
        )
    return token


def refusal(decision: Decision) -> Problem:
    if decision.verdict is Verdict.INVALID_KEY:
        return Problem(
            status=401,
            code="invalid_key",
            title="Invalid API key",
            detail="This API key is not known: it is mistyped, revoked or expired.",
        )
    if decision.verdict is Verdict.NOT_IN_PLAN:
        return Problem(
            status=403,
            code="not_in_plan",
            title="Not in your plan",
            detail=f"Your plan includes no {decision.meter}.",
        )
    if decision.verdict is Verdict.UNAVAILABLE:
        return Problem(
            status=503,
            code="gate_unavailable",
            title="Temporarily unavailable",
            detail="The call could not be checked against your plan. Please try again.",
            retry_after=1,
        )
    if decision.verdict is Verdict.SUSPENDED:
        entitlement = Entitlement.objects.select_related("plan", "bought_plan", "policy").get(
            organization=decision.organization_id
        )
        return Problem(
            status=402,
            code="suspended",
            title="Payment required",
            detail=entitlement.banner or "Your subscription gives no access until it is paid.",
            members={"subscription_status": entitlement.status},
        )
    plan = Plan.objects.filter(entitlements__organization=decision.organization_id).first()
    name = plan.name if plan else "current"
    resets_at = (decision.at + decision.wait).astimezone(UTC).isoformat(timespec="milliseconds")
    seconds = decision.wait.total_seconds()
    if decision.verdict is Verdict.RATE_LIMITED:
        return Problem(
            status=429,
            code="rate_limited",
            title="Too many requests",
            detail=(
                f"Your {name} plan allows {decision.rate_limit} requests a minute. "
                f"Try again in {seconds:.1f} seconds."
            ),
            members={"policy": "minute", "limit": decision.rate_limit, "resets_at": resets_at},
            retry_after=seconds,
        )
    return Problem(
        status=429,
        code="quota_exceeded",
        title="Quota used up",
        detail=(
            f"Your {name} plan includes {decision.quota} units of {decision.meter} a period, and this period's "
            f"are used up. They are back at {resets_at}, or at once on a larger plan."
        ),
        members={
            "policy": "period",
            "limit": decision.quota,
            "used": decision.used,
            "meter": decision.meter,
            "resets_at": resets_at,
        },
        retry_after=seconds,
    )


class GateScheme(OpenApiAuthenticationExtension):
    target_class = "apikeys.drf.GateAuthentication"
    name = "APIKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "Your API key."}
