"""To Stripe's pages for cards and billing details, and back."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.tenancy import TenantRequest, organization_required
from billing.errors import BillingError
from billing.pages import absolute
from billing.standing import PaymentMethod, find_standing
from billing.stripe.payment_methods import sync_default_card
from billing.stripe.portal import open_portal

FLOWS = {"payment_method_update"}


@require_POST
@organization_required(lambda role: role.manages_billing)
def portal(request: TenantRequest) -> HttpResponse:
    """Send the customer to Stripe's page for cards, addresses and tax ids."""
    flow = request.POST.get("flow")
    try:
        url = open_portal(
            request.organization,
            return_url=absolute(reverse("portal-return")),
            flow=flow if flow in FLOWS else None,
        )
    except BillingError as error:
        messages.error(request, str(error))
        return redirect("billing")
    return redirect(url)


@require_safe
@organization_required()
def portal_return(request: TenantRequest) -> HttpResponse:
    """Where the portal sends the customer back: the card is up to date before the next page, webhook or not."""
    before = find_card(request)
    try:
        sync_default_card(request.organization)
    except BillingError:
        messages.info(request, "What you changed will show here shortly.")
        return redirect("billing")
    card = find_card(request)
    if card and card != before:
        messages.success(request, f"{card.brand.capitalize()} ending in {card.last4} is charged from now on.")
    return redirect("billing")


def find_card(request: TenantRequest) -> PaymentMethod | None:
    standing = find_standing(request.organization)
    return standing.payment_method if standing else None
