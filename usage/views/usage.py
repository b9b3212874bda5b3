from django.http import HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_safe

from accounts import clock
from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from usage.overview import open_overview
from usage.usage_links import links_of


@require_safe
@organization_required()
def usage(request: TenantRequest) -> HttpResponse:
    entitlement, now = current_entitlement(request.organization), clock.now()
    entitlement.organization = request.organization
    overview = open_overview(entitlement, request.GET.dict(), now=now)
    return render(
        request,
        "dashboard/usage.html",
        {
            "organization": request.organization,
            "entitlement": entitlement,
            "overview": overview,
            "links": links_of(overview, now=now),
            "proof_url": proof_url(),
        },
    )


def proof_url() -> str:
    """Return where what was counted is proved to be what is billed; empty where there is no such page."""
    try:
        return reverse("usage-proof")
    except NoReverseMatch:
        return ""
