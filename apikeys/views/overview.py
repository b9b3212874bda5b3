"""The customer's overview."""

from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import clock
from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from billing.outlook import describe_grace, describe_outlook
from billing.standing import find_standing
from billing.stripe import client
from usage.overview import first_meter
from usage.summaries import meter_usages, recent_hours


@require_safe
@organization_required()
def dashboard(request: TenantRequest) -> HttpResponse:
    with timezone.override(ZoneInfo(request.organization.time_zone)):
        return show(request)


def show(request: TenantRequest) -> HttpResponse:
    keys = list(request.organization.api_keys.active())
    entitlement, standing = current_entitlement(request.organization), find_standing(request.organization)
    return render(
        request,
        "dashboard/overview.html",
        {
            "organization": request.organization,
            "entitlement": entitlement,
            "grace": describe_grace(entitlement),
            "outlook": describe_outlook(standing) if standing else [],
            "open_invoice": standing.open_invoice if standing and request.role.manages_billing else None,
            "meters": meter_usages(entitlement, now=clock.now()),
            "keys": keys,
            "offers_first_key": request.role.manages_keys and not any(key.is_live for key in keys),
            "recent": recent_hours(request.organization, meter=first_meter(entitlement), now=clock.now()),
            "curl_example": f'curl -H "Authorization: Bearer <your key>" {settings.API_BASE_URL}/api/v1/echo',
            "sandboxed": client.is_elsewhere(),
        },
    )
