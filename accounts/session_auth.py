"""The management API in a browser: who is signed in here may call it as the member that they are.

Customers' own pages use it, and who has no API key yet gets the first one by it.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.models import Organization, Role, User
from accounts.tenancy import find_membership


@dataclass(frozen=True, slots=True)
class SessionClient:
    """A member in a browser: what DRF calls the user, beside the programs that the gate lets in."""

    user: User
    organization: Organization
    role: Role
    is_authenticated: bool = True

    @property
    def organization_id(self) -> UUID:
        return self.organization.pk


class MemberAuthentication(SessionAuthentication):
    """Django's session, with its CSRF token asked for at every write.

    After the gate's, which answers whatever carries an Authorization header.
    """

    def authenticate(self, request: Request) -> tuple[SessionClient, None] | None:
        found = super().authenticate(request)  # Raises PermissionDenied without the token.
        django_request: HttpRequest = request._request
        membership = find_membership(django_request) if found else None
        if found is None or membership is None:
            return None
        return SessionClient(found[0], membership.organization, membership.get_role()), None


class MemberMayWrite(BasePermission):
    """Reading is every member's; the view's `role_allows` says who may write. A key is not asked here."""

    def has_permission(self, request: Request, view: Any) -> bool:
        client = request.user
        if not isinstance(client, SessionClient) or request.method in SAFE_METHODS:
            return True
        self.message = f"Your role ({client.role.label}) may not do this."
        return bool(view.role_allows(client.role))


class MemberScheme(OpenApiAuthenticationExtension):
    target_class = "accounts.session_auth.MemberAuthentication"
    name = "Session"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "A browser that is signed in here. Writes send the CSRF token as X-CSRFToken.",
        }
