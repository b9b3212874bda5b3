"""Usage for staff: of everybody at a glance, and of one organization as its own page shows it."""

from typing import Any
from uuid import UUID

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts import clock
from accounts.models import Organization
from billing.entitlements import current_entitlement
from usage.most_used import most_used
from usage.overview import open_overview
from usage.usage_links import links_of


def overview_page(request: HttpRequest, site: AdminSite, opts: Any) -> HttpResponse:
    """Show the organizations that used most of each meter in the month that is asked for."""
    now = clock.now()
    months = [now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    while len(months) < 12:
        before = months[-1]
        months.append(before.replace(year=before.year - (before.month == 1), month=before.month - 1 or 12))
    month = next((each for each in months if f"{each:%Y-%m}" == request.GET.get("month")), months[0])
    context = {
        **site.each_context(request),
        "title": "Usage",
        "opts": opts,
        "tables": most_used(month),
        "month": month,
        "months": months,
    }
    return TemplateResponse(request, "admin/usage/overview.html", context)


def organization_page(request: HttpRequest, site: AdminSite, opts: Any, pk: UUID) -> HttpResponse:
    organization = get_object_or_404(Organization, pk=pk)
    entitlement, now = current_entitlement(organization), clock.now()
    entitlement.organization = organization
    overview = open_overview(entitlement, request.GET.dict(), now=now)
    context = {
        **site.each_context(request),
        "title": f"Usage of {organization}",
        "opts": opts,
        "organization": organization,
        "overview": overview,
        "links": links_of(overview, now=now),
        "customer_url": customer_url(request, organization),
    }
    return TemplateResponse(request, "admin/usage/organization.html", context)


def customer_url(request: HttpRequest, organization: Organization) -> str:
    """Return the address of the customer's page; empty for whom it is not."""
    may_see = request.user.has_perm("billing.view_billingcustomer")
    return reverse("admin:billing_billingcustomer_change", args=[organization.pk]) if may_see else ""
