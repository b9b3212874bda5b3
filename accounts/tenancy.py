"""Which organization a signed-in person acts for. Views start every look-up from it."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.functional import SimpleLazyObject

from accounts.models import Membership, Organization, Role, User

P = ParamSpec("P")
SESSION_KEY = "organization"


class TenantRequest(HttpRequest):
    """A request of a signed-in member, as `organization_required` hands it to a view."""

    user: User
    organization: Organization
    role: Role


def find_membership(request: HttpRequest) -> Membership | None:
    """Return the membership chosen in this session, else the person's first, else None."""
    if not request.user.is_authenticated:
        return None
    memberships = Membership.objects.filter(user=request.user).select_related("organization")
    chosen = request.session.get(SESSION_KEY)
    return (memberships.filter(organization=chosen).first() if chosen else None) or memberships.first()


def current_organization(request: HttpRequest) -> Organization | None:
    """dj-stripe's request callback: who would subscribe here."""
    membership = cast("Membership | None", getattr(request, "membership", None)) or find_membership(request)
    return membership.organization if membership else None


class OrganizationMiddleware:
    """Put the membership on the request, looked up only where something asks for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.membership = SimpleLazyObject(lambda: find_membership(request))  # type: ignore[attr-defined]
        return self.get_response(request)


def organization_context(request: HttpRequest) -> dict[str, object]:
    return {"membership": getattr(request, "membership", None)}


def organization_required(
    may: Callable[[Role], bool] = lambda role: True,
) -> Callable[
    [Callable[Concatenate[TenantRequest, P], HttpResponse]],
    Callable[Concatenate[HttpRequest, P], HttpResponse],
]:
    """Let in members whose role passes `may`; others get 403. Sets request.organization and request.role."""

    def decorate(
        view: Callable[Concatenate[TenantRequest, P], HttpResponse],
    ) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            membership = find_membership(request)
            if membership is None:
                if request.user.is_authenticated and request.user.is_staff:
                    return redirect("admin:index")
                return render(request, "accounts/no_organization.html", status=403)
            role = membership.get_role()
            if not may(role):
                raise PermissionDenied(f"Your role ({role.label}) may not do this.")
            tenant = cast("TenantRequest", request)
            tenant.organization = membership.organization
            tenant.role = role
            return view(tenant, *args, **kwargs)

        return wrapped

    return decorate
