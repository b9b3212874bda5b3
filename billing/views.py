"""Prices, the customer's billing page, and the way to Checkout and back."""

import re
from urllib.parse import urljoin
from uuid import uuid4

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import SuspiciousOperation
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django_ratelimit.decorators import ratelimit

from accounts.tenancy import TenantRequest, find_membership, organization_required
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.errors import AlreadySubscribed, BillingError, StripeRejected, StripeUnavailable
from billing.invoices import list_invoices
from billing.models import Plan
from billing.stripe.checkout import finish_checkout, start_checkout

ATTEMPT = re.compile(r"[0-9a-f-]{36}")
SLUG = re.compile(r"[a-z0-9_]{1,40}")
SESSION_ID = re.compile(r"cs_[0-9A-Za-z_]{1,250}")


def offered_plans() -> QuerySet[Plan]:
    return Plan.objects.public().prefetch_related("quotas__meter", "prices")


@login_not_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "billing/home.html", {"plans": offered_plans()})


@login_not_required
@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    membership = find_membership(request)
    return render(
        request,
        "billing/pricing.html",
        {
            "plans": offered_plans(),
            "entitlement": current_entitlement(membership.organization) if membership else None,
            "attempt": str(uuid4()),
            "can_manage_billing": bool(membership and membership.get_role().manages_billing),
        },
    )


@require_safe
@organization_required()
def billing(request: TenantRequest) -> HttpResponse:
    return render(
        request,
        "billing/billing.html",
        {
            "organization": request.organization,
            "entitlement": current_entitlement(request.organization),
            "plans": offered_plans(),
            "attempt": str(uuid4()),
            "can_manage_billing": request.role.manages_billing,
            "invoices": list_invoices(request.organization),
        },
    )


@require_POST
@ratelimit(key="user", rate="20/m")
@organization_required(lambda role: role.manages_billing)
def checkout(request: TenantRequest) -> HttpResponse:
    """Send the customer to Stripe's page to pay for a plan."""
    slug = request.POST.get("plan", "")
    if not SLUG.fullmatch(slug):
        raise Http404("There is no such plan.")
    plan = get_object_or_404(offered_plans(), slug=slug)
    attempt = request.POST.get("attempt", "")
    if not ATTEMPT.fullmatch(attempt):
        raise SuspiciousOperation("The field “attempt” is missing or not a UUID.")
    returning = absolute(reverse("checkout-return")) + "?session_id={CHECKOUT_SESSION_ID}"
    try:
        url = start_checkout(
            request.organization,
            plan=plan,
            attempt=attempt,
            success_url=returning,
            cancel_url=absolute(reverse("billing")),
        )
    except AlreadySubscribed:
        refresh_entitlement(request.organization)
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
        messages.success(request, f"Thank you. You are on {entitlement.plan.name} now.")
    return redirect("dashboard")


def absolute(path: str) -> str:
    return urljoin(f"{settings.FRONTEND_URL}/", path)
