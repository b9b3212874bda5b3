"""Moving to another plan: the preview to the cent, and the change that was agreed to."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.tenancy import TenantRequest, organization_required
from billing.errors import BillingError, ChangeRefused, NoSubscription, PaymentDeclined, PreviewOutdated
from billing.models import Plan
from billing.outlook import day
from billing.price_list import compare_limits
from billing.standing import find_standing
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.previewing import ChangePreview, preview_change
from billing.views.asked import interval_asked, plan_asked


@require_http_methods(["GET", "HEAD", "POST"])
@organization_required(lambda role: role.manages_billing)
def change(request: TenantRequest) -> HttpResponse:
    """Show what a change costs, and make it where the customer agrees to what was shown."""
    asked = request.POST if request.method == "POST" else request.GET
    plan, interval = plan_asked(asked), interval_asked(asked)
    return (
        make(request, plan, interval) if request.method == "POST" else show_preview(request, plan, interval)
    )


def make(request: TenantRequest, plan: Plan, interval: str) -> HttpResponse:
    token = request.POST.get("token", "")
    try:
        if not token:
            raise PreviewOutdated("Nothing was agreed to.")
        outcome = change_plan(request.organization, plan=plan, interval=interval, token=token)
    except PreviewOutdated:
        problem = "The amounts have changed since you saw them. Nothing was changed: please look again."
        return show_preview(request, plan, interval, problem=problem, status=409)
    except PaymentDeclined as error:
        standing = find_standing(request.organization)
        kept = f" You are still on {standing.plan.name}." if standing else ""
        problem = f"{error} Nothing was changed.{kept}"
        return show_preview(request, plan, interval, problem=problem, is_declined=True, status=402)
    except ChangeRefused as error:
        is_so_already = error.code == "nothing_changes"
        messages.add_message(request, messages.INFO if is_so_already else messages.ERROR, str(error))
        return redirect("billing")
    except BillingError as error:
        messages.error(request, f"{error} Nothing was changed.")
        return redirect("billing")
    if outcome.state == "requires_action":
        # The bank wants to hear from the card's owner: on the payment provider's page.
        return redirect(outcome.payment_url)
    messages.success(request, said_of(request, plan, is_scheduled=outcome.state == "scheduled"))
    return redirect("billing")


def show_preview(
    request: TenantRequest,
    plan: Plan,
    interval: str,
    *,
    problem: str = "",
    is_declined: bool = False,
    status: int = 200,
) -> HttpResponse:
    try:
        preview = preview_change(request.organization, plan=plan, interval=interval)
    except NoSubscription:
        messages.info(request, "You have no subscription to change. Choose a plan to begin one.")
        return redirect("billing")
    except BillingError as error:
        is_so_already = isinstance(error, ChangeRefused) and error.code == "nothing_changes"
        messages.add_message(
            request, messages.INFO if is_so_already else messages.ERROR, problem or str(error)
        )
        return redirect("billing")
    standing = find_standing(request.organization)
    held = standing.plan if standing else Plan.objects.of_last_resort()
    return render(
        request,
        "billing/change.html",
        {
            "title": title_of(preview, held),
            "preview": preview,
            "standing": standing,
            "held": held,
            "limits": compare_limits(held, preview.plan),
            "problem": problem,
            "is_declined": is_declined,
        },
        status=status,
    )


def title_of(preview: ChangePreview, held: Plan) -> str:
    if preview.plan == held:
        return f"Pay {held.name} {'yearly' if preview.interval == 'year' else 'monthly'}"
    verb = {"upgrade": "Upgrade", "downgrade": "Downgrade"}.get(preview.kind, "Change")
    return f"{verb} to {preview.plan.name}{', paid yearly' if preview.interval == 'year' else ''}"


def said_of(request: TenantRequest, plan: Plan, *, is_scheduled: bool) -> str:
    """Return what is so after the change."""
    standing = find_standing(request.organization)
    if is_scheduled and standing and standing.cancels_at:
        return (
            f"Your subscription ends on {day(standing.cancels_at)}. You keep {standing.plan.name} until then."
        )
    if is_scheduled and standing and standing.scheduled_change:
        at = standing.scheduled_change.at
        return (
            f"You move to {plan.name} on {day(at)}. Until then you keep {standing.plan.name}, "
            "and you can take this back."
        )
    return f"You are on {plan.name} now{', paid yearly' if standing and standing.interval == 'year' else ''}."


@require_POST
@organization_required(lambda role: role.manages_billing)
def undo(request: TenantRequest) -> HttpResponse:
    """Take back a change that is still to come, or one that waits for its payment."""
    try:
        undo_change(request.organization)
    except BillingError as error:
        messages.error(request, str(error))
        return redirect("billing")
    standing = find_standing(request.organization)
    if standing:
        messages.success(request, f"You keep {standing.plan.name}. The change was taken back.")
    return redirect("billing")
