from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST
from django_ratelimit.decorators import ratelimit

from accounts.tenancy import TenantRequest, organization_required
from billing.errors import BillingError
from billing.pages import absolute
from billing.stripe.portal import open_portal

FLOWS = {"payment_method_update"}


@require_POST
@ratelimit(key="user", rate="20/m")
@organization_required(lambda role: role.manages_billing)
def portal(request: TenantRequest) -> HttpResponse:
    """Send the customer to Stripe's page for cards, addresses and tax ids."""
    flow = request.POST.get("flow")
    try:
        url = open_portal(
            request.organization,
            return_url=absolute(reverse("billing")),
            flow=flow if flow in FLOWS else None,
        )
    except BillingError as error:
        messages.error(request, str(error))
        return redirect("billing")
    return redirect(url)
