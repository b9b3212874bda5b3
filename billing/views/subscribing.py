"""The way to Checkout and back."""

import re

from django.contrib import messages
from django.core.exceptions import SuspiciousOperation
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from billing.errors import AlreadySubscribed, BillingError, StripeRejected, StripeUnavailable
from billing.pages import absolute, checkout_return_url
from billing.stripe.checkout import finish_checkout, start_checkout
from billing.views.asked import currency_asked, interval_asked, plan_asked

ATTEMPT = re.compile(r"[0-9a-f-]{36}")
SESSION_ID = re.compile(r"cs_[0-9A-Za-z_]{1,250}")


@require_POST
@organization_required(lambda role: role.manages_billing)
def checkout(request: TenantRequest) -> HttpResponse:
    """Send the customer to Stripe's page to pay for a plan."""
    plan = plan_asked(request.POST)
    interval, currency = interval_asked(request.POST), currency_asked(request.POST)
    attempt = request.POST.get("attempt", "")
    if not ATTEMPT.fullmatch(attempt):
        raise SuspiciousOperation("The field “attempt” is missing or not a UUID.")
    try:
        url = start_checkout(
            request.organization,
            plan=plan,
            interval=interval,
            currency=currency,
            attempt=attempt,
            success_url=checkout_return_url(),
            cancel_url=absolute(reverse("billing")),
        )
    except AlreadySubscribed:
        messages.info(request, "You have a subscription already. Nothing was charged.")
        return redirect("billing")
    except BillingError as error:
        messages.error(request, f"{error} Nothing was charged.")
        return redirect("billing")
    return redirect(url)


@require_safe
@organization_required()
def checkout_return(request: TenantRequest) -> HttpResponse:
    """Where Checkout sends the customer back: their plan is up to date before the next page, webhook or not."""
    session_id = request.GET.get("session_id", "")
    if not SESSION_ID.fullmatch(session_id):
        raise Http404("There is no such checkout.")
    try:
        outcome = finish_checkout(request.organization, session_id=session_id)
    except (LookupError, StripeRejected) as error:
        raise Http404("There is no such checkout.") from error
    except StripeUnavailable:
        messages.warning(
            request, "Your payment is being confirmed. This page will show your new plan shortly."
        )
        return redirect("dashboard")
    if outcome.refusal:
        messages.warning(request, outcome.refusal)
        return redirect("billing")
    if outcome.is_done:
        entitlement = current_entitlement(request.organization)
        is_trial = entitlement.status == "trialing"
        name = entitlement.plan.name
        said = f"Your trial of {name} has begun." if is_trial else f"You are on {name} now."
        messages.success(request, f"Thank you. {said}")
    return redirect("dashboard")
