"""The customer's billing page: what they have, what they pay, and what comes next."""

from uuid import uuid4

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from billing.invoices import list_invoices
from billing.outlook import describe_grace, describe_next_charge, describe_refused_trial
from billing.price_list import open_price_list
from billing.spend_caps import cap_states
from billing.standing import find_standing


@require_safe
@organization_required()
def billing(request: TenantRequest) -> HttpResponse:
    organization = request.organization
    try:
        page = list_invoices(organization, after=request.GET.get("after", ""))
    except LookupError as error:
        raise Http404("There is no such invoice.") from error
    entitlement, standing = current_entitlement(organization), find_standing(organization)
    return render(
        request,
        "billing/billing.html",
        {
            "organization": organization,
            "entitlement": entitlement,
            "grace": describe_grace(entitlement),
            "standing": standing,
            "refused_trial": "" if standing else describe_refused_trial(organization),
            "next_charge": describe_next_charge(standing) if standing else "",
            "price_list": open_price_list(
                organization,
                interval=request.GET.get("interval", ""),
                currency=request.GET.get("currency", ""),
            ),
            "spend_caps": cap_states(organization),
            "attempt": str(uuid4()),
            "can_manage_billing": request.role.manages_billing,
            "page": page,
        },
    )
