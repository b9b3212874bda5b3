from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts import clock
from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from usage.summaries import period_days


@require_safe
@organization_required()
def usage(request: TenantRequest) -> HttpResponse:
    entitlement = current_entitlement(request.organization)
    days = period_days(entitlement, meter="requests", now=clock.now())
    return render(
        request,
        "dashboard/usage.html",
        {
            "organization": request.organization,
            "entitlement": entitlement,
            "days": days,
            "total_units": sum(day.units for day in days),
        },
    )
