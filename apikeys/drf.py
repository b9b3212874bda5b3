"""The gate in front of DRF views: with the project's settings there is nothing to remember per view.

    class Forecast(APIView):
        gate_meter, gate_cost, gate_scopes = "requests", 1, ()  # These are the defaults. 0 is free of quota.

    @api_view(["POST"])
    @gate(meter="tokens", reserve=4000)                         # The most that a call may cost;
    def complete(request):
        charge(request, units=spent)                            # what it did cost. The rest is given back.

`gate_…` may be properties, which read `self.request`, as long as they do not ask it who calls.

DRF checks authentication, then permissions, then throttles. One question to the gate, asked by the first, answers
both who calls and whether the limits let the call in; the second half is kept for GateThrottle. A call that a
permission of yours refuses in between has been charged and not served: its units are given back and it is no
event. It keeps its place in the rate, which counts tries. An error that the view itself answers with, a 403 of an
object's permission included, is an answer like any other and costs what the view costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.addresses import client_address
from accounts.models import Organization
from apikeys import ahead
from apikeys.bearer import bearer_token
from apikeys.calls import Call, CannotCharge, charge
from apikeys.decision import Decision, Verdict
from apikeys.gate import Asked
from apikeys.problems import CHALLENGE
from apikeys.refusals import refusal
from apikeys.terms import DEFAULT, gate, terms_of

if TYPE_CHECKING:
    from rest_framework.views import APIView  # Which imports this module, by the settings.

__all__ = ["APIClient", "CannotCharge", "GateAuthentication", "GateThrottle", "charge", "gate"]

DRF_VIEWS = "rest_framework.views"
# Refusals that are the limits' and not the key's.
LIMITS = {Verdict.RATE_LIMITED, Verdict.QUOTA_EXCEEDED, Verdict.SPEND_CAP_REACHED, Verdict.SUSPENDED}


class APIClient:
    """The program behind a call: what DRF calls the user."""

    is_authenticated = True
    is_anonymous = False

    __slots__ = ("decision",)

    def __init__(self, decision: Decision) -> None:
        self.decision = decision

    @property
    def pk(self) -> UUID:
        """The key's id. DRF's own throttles go by it."""
        return self.api_key_id

    @property
    def organization_id(self) -> UUID:
        return self.decision.organization_id

    @property
    def api_key_id(self) -> UUID:
        return self.decision.api_key_id

    @property
    def organization(self) -> Organization:
        return Organization.objects.get(pk=self.organization_id)


class GateAuthentication(BaseAuthentication):
    """Tell who calls, by the API key: `request.user` is an APIClient, `request.auth` the gate's Decision.

    `request.auth.livemode` is False for a test key, whose calls are never billed. Refuses for the key's sake by
    raising Problem: 401, 403 for a scope, an address or a meter that the plan has not, 503 where the gate cannot
    decide. Where the view has no GateThrottle the call costs nothing and takes no place in the rate.
    """

    asks_the_gate = True

    def authenticate(self, request: Request) -> tuple[APIClient, Decision] | None:
        http = request._request
        secret = bearer_token(http.META.get("HTTP_AUTHORIZATION", ""))
        if secret is None:
            return None  # The permission class says no where the view needs a key.
        view: APIView | None = request.parser_context["view"] if request.parser_context else None
        terms = terms_of(view, request.method or "") if view else DEFAULT
        limited = view is not None and is_limited(view)
        asked = Asked(
            secret, terms.meter, terms.cost if limited else 0, terms.scopes, client_address(http), limited
        )
        decision = ahead.decide(http, asked)
        if view is not None:
            ahead.learn(http, view, terms, limited=limited)
        # A view that checks throttles in a way of its own may not come to ask for the second half.
        is_kept = view is not None and limited and type(view).check_throttles.__module__ == DRF_VIEWS
        # For the middleware, which meters the answer and adds the rate headers, to a refusal's as well.
        http.gate_call = Call(  # type: ignore[attr-defined]
            decision, is_served=not is_kept, is_reservation=terms.is_reservation
        )
        if not decision.admitted and not (is_kept and decision.verdict in LIMITS):
            raise refusal(decision, scopes=terms.scopes)
        return APIClient(decision), decision

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class GateThrottle(BaseThrottle):
    """Apply the limits, as the gate has decided with the key: rate, quota, spend cap, access.

    Refuses by raising Problem: 429, or 402 where a payment is missing. A request without a key, such as one with
    a session, has no limits here.
    """

    def allow_request(self, request: Request, view: APIView) -> bool:
        decision = request.auth  # Whoever puts off asking who calls is asked now.
        if isinstance(decision, Decision):
            if not decision.admitted:
                raise refusal(decision)
            request._request.gate_call.is_served = True  # type: ignore[attr-defined]
        return True


def is_limited(view: APIView) -> bool:
    """Whether GateThrottle will be asked before the view is called."""
    if type(view).get_throttles.__module__ != DRF_VIEWS:
        return any(isinstance(throttle, GateThrottle) for throttle in view.get_throttles())
    throttles: list[Any] = list(view.throttle_classes)
    return any(isinstance(each, type) and issubclass(each, GateThrottle) for each in throttles)


class GateScheme(OpenApiAuthenticationExtension):
    target_class = "apikeys.drf.GateAuthentication"
    name = "APIKey"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "Your API key."}
