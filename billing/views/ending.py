"""Leaving: at the end of the period or now, and staying after all."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.tenancy import TenantRequest, organization_required
from billing.entitlements import current_entitlement
from billing.errors import BillingError
from billing.models import Plan
from billing.outlook import day
from billing.standing import find_standing
from billing.stripe import ending


@require_http_methods(["GET", "HEAD", "POST"])
@organization_required(lambda role: role.manages_billing)
def cancel(request: TenantRequest) -> HttpResponse:
    """Ask when the subscription is to end, with what either costs, and end it."""
    standing = find_standing(request.organization)
    if standing is None:
        # Also where the button was pressed twice.
        plan = current_entitlement(request.organization).plan
        messages.info(request, f"You have no subscription to cancel: you are on {plan.name}.")
        return redirect("billing")
    if request.method != "POST":
        return ask(request)
    when = request.POST.get("when", "")
    try:
        if when == "period_end":
            ends_at = ending.cancel_at_period_end(request.organization)
            messages.success(
                request,
                f"Your subscription ends on {day(ends_at)}. You keep {standing.plan.name} until then.",
            )
        elif when == "now":
            ending.cancel_now(request.organization)
            entitlement = current_entitlement(request.organization)
            messages.success(request, f"Your subscription has ended. You are on {entitlement.plan.name} now.")
        else:
            messages.error(request, "Choose when your subscription is to end.")
            return ask(request, status=422)
    except BillingError as error:
        messages.error(request, str(error))
    return redirect("billing")


def ask(request: TenantRequest, *, status: int = 200) -> HttpResponse:
    preview, problem = None, ""
    try:
        preview = ending.preview_cancel_now(request.organization)
    except BillingError as error:
        problem = str(error)
    return render(
        request,
        "billing/cancel.html",
        {
            "standing": find_standing(request.organization),
            "free": Plan.objects.of_last_resort(),
            "preview": preview,
            "problem": problem,
        },
        status=status,
    )


@require_POST
@organization_required(lambda role: role.manages_billing)
def resume(request: TenantRequest) -> HttpResponse:
    """Take the cancellation back, while the subscription still runs."""
    try:
        ending.resume(request.organization)
    except BillingError as error:
        messages.error(request, str(error))
        return redirect("billing")
    standing = find_standing(request.organization)
    if standing:
        messages.success(request, f"Your subscription goes on. You keep {standing.plan.name}.")
    return redirect("billing")
