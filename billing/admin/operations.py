"""Staff's page for Stripe: what is set up, and setting it up."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join

from accounts.admin import ReadOnlyAdmin
from billing import overview, setting_up
from billing.errors import BillingError
from billing.models import SetupRun
from billing.stripe.event_destinations import ping_destination, rotate_destination_secret
from billing.stripe.webhook_endpoints import rotate_webhook_secret

MAY_SET_UP = "billing.set_up_stripe"
OUTCOMES = {
    "unchanged": ("as it was", ""),
    "changed": ("changed", "success"),
    "attention": ("look", "warning"),
    "failed": ("failed", "danger"),
}


def replace_endpoint(which: str) -> str:
    settled = rotate_webhook_secret(replacing=which)
    return f"{settled.id} is the webhook endpoint now. The one before it stays until its events are in."


def replace_destination(which: str) -> str:
    settled = rotate_destination_secret(replacing=which)
    return f"{settled.id} is the event destination now. The one before it stays for three days."


def ping(which: str) -> str:
    ping_destination(which)
    return "Stripe sends a test event. It shows under “Last received” in a moment."


# Each takes the id of what was on the page, so that a form sent twice does not do it to its successor.
DEEDS: dict[str, Callable[[str], str]] = {
    "replace-endpoint": replace_endpoint,
    "replace-destination": replace_destination,
    "ping": ping,
}


@admin.register(SetupRun)
class SetupRunAdmin(ReadOnlyAdmin):
    """Its list is the page for Stripe. Looking needs the permission to view; doing, that to set up."""

    list_display = ["started_at"]
    fields = ["started_at", "finished_at", "by", "steps_done"]
    readonly_fields = fields

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("set-up/", view(self.set_up_view), name="billing_stripe_set_up"),
            path("do/<slug:deed>/", view(self.do_view), name="billing_stripe_do"),
        ]
        return own + super().get_urls()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        endpoint, destination = overview.find_endpoint(), overview.find_destination()
        runs = list(SetupRun.objects.select_related("by")[:5])
        parts = overview.overview()
        context = {
            **self.admin_site.each_context(request),
            "title": "Stripe",
            "opts": self.opts,
            "parts": parts,
            "last": next(iter(runs), None),
            "last_steps": steps_of(runs[0]) if runs else [],
            "earlier": runs[1:],
            "tax_is_in_the_way": any(part.name == "tax" and part.is_bad for part in parts),
            "may_set_up": request.user.has_perm(MAY_SET_UP),
            "endpoint_id": endpoint.id if endpoint else "",
            "destination_id": destination.id if destination else "",
            "may_change_settings": request.user.has_perm("billing.change_billingsettings"),
            "thin_events_url": reverse("admin:billing_thinevent_changelist"),
            "settings_url": reverse("admin:billing_billingsettings_changelist"),
        }
        return TemplateResponse(request, "admin/billing/stripe.html", context)

    def set_up_view(self, request: HttpRequest) -> HttpResponse:
        check_deed(request)
        run = setting_up.set_up(by=request.user, without_tax="without_tax" in request.POST)  # type: ignore[arg-type]
        if run.has_failed:
            messages.error(request, "The set-up is not complete: see what failed below.")
        elif run.changed_nothing:
            messages.success(request, "Everything is set up. Nothing had to be changed.")
        else:
            messages.success(request, "Stripe is set up: see what was changed below.")
        return redirect("admin:billing_setuprun_changelist")

    def do_view(self, request: HttpRequest, deed: str) -> HttpResponse:
        check_deed(request)
        work = DEEDS.get(deed)
        if work is None:
            raise PermissionDenied
        try:
            messages.success(request, work(request.POST.get("id", "")))
        except BillingError as error:
            messages.error(request, str(error))
        return redirect("admin:billing_setuprun_changelist")

    @admin.display(description="steps")
    def steps_done(self, run: SetupRun) -> str:
        rows = [(step["title"], OUTCOMES[step["outcome"]][0], step["detail"]) for step in run.steps]
        return format_html_join("", "<p>{} [{}]: {}</p>", rows)


def check_deed(request: HttpRequest) -> None:
    if request.method != "POST" or not request.user.has_perm(MAY_SET_UP):
        raise PermissionDenied


def steps_of(run: SetupRun) -> list[dict[str, str]]:
    return [
        {**step, "word": OUTCOMES[step["outcome"]][0], "label": OUTCOMES[step["outcome"]][1]}
        for step in run.steps
    ]
