"""Who may ask the gate on behalf of others: the operator's own servers, by their service tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import InterfaceError, InternalError, OperationalError
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.addresses import client_network
from accounts.limits import SERVICE_TOKEN_REFUSALS, seconds_over
from apikeys.decision import Decision, Verdict
from apikeys.problems import CHALLENGE, INVALID_TOKEN, Problem, insufficient_scope, too_many_requests
from apikeys.refusals import refusal
from apikeys.service_access import ServiceAccess, find_access

if TYPE_CHECKING:
    from rest_framework.views import APIView


class ServiceClient:
    """One of the operator's servers: what DRF calls the user."""

    is_authenticated = True
    is_anonymous = False

    def __init__(self, access: ServiceAccess) -> None:
        self.pk = access.token_id


class ServiceTokenAuthentication(BaseAuthentication):
    """Let the operator's servers in by `Authorization: Bearer <service token>`; `request.auth` is what it may do.

    Raises Problem: 401 for a missing or bad token, 429 after too many from one address, 503 where nobody can say.
    """

    def authenticate(self, request: Request) -> tuple[ServiceClient, ServiceAccess]:
        secret = self.find_secret(request)
        try:
            access = find_access(secret) if secret else None
        except (OperationalError, InterfaceError, InternalError) as error:
            raise refusal(Decision(Verdict.UNAVAILABLE)) from error
        if access is None:
            raise self.refusal(request, is_missing=not secret)
        return ServiceClient(access), access

    def find_secret(self, request: Request) -> str:
        scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        return token.strip(" ") if scheme.lower() == "bearer" else ""

    def refusal(self, request: Request, *, is_missing: bool) -> Problem:
        # A token that works is never counted.
        seconds = seconds_over(
            request._request,
            group="service-tokens",
            caller=client_network(request._request),
            limit=SERVICE_TOKEN_REFUSALS,
        )
        if seconds:
            return too_many_requests(seconds, of="requests without a valid service token")
        return Problem(
            status=401,
            code="invalid_service_token",
            title="Invalid service token",
            detail=f"Send a service token of Tollgate's as {self.place}. Staff make one in the back office.",
            headers={"WWW-Authenticate": CHALLENGE if is_missing else INVALID_TOKEN},
        )

    place = "`Authorization: Bearer <token>`"

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class ProxyTokenAuthentication(ServiceTokenAuthentication):
    """The same by the header X-Tollgate-Token, where Authorization is the caller's."""

    place = "`X-Tollgate-Token: <token>`"

    def find_secret(self, request: Request) -> str:
        secret: str = request.META.get("HTTP_X_TOLLGATE_TOKEN", "")
        return secret.strip(" ")


class HasServiceScope(BasePermission):
    """The token has the view's `service_scope`. Raises Problem, 403, where not."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        scope: str = view.service_scope  # type: ignore[attr-defined]
        if not isinstance(request.auth, ServiceAccess) or scope not in request.auth.scopes:
            raise Problem(
                status=403,
                code="insufficient_scope",
                title="Insufficient scope",
                detail=f"This service token lacks the scope {scope}.",
                members={"scopes": [scope]},
                headers={"WWW-Authenticate": insufficient_scope([scope])},
            )
        return True


class ServiceTokenScheme(OpenApiAuthenticationExtension):
    target_class = "apikeys.api.service.ServiceTokenAuthentication"
    name = "ServiceToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "An operator's service token."}


class ProxyTokenScheme(OpenApiAuthenticationExtension):
    target_class = "apikeys.api.service.ProxyTokenAuthentication"
    name = "ProxyToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "X-Tollgate-Token"}
