"""Staff's page for Stripe: what is set up, setting it up, and what Stripe has complained about."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin
from billing import overview, setting_up
from billing.errors import BillingError
from billing.models import BillingSettings, Meter, SetupRun, ThinEvent
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


class DaysField(forms.CharField):
    """Numbers of days, written as in “3, 5, 7”."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(day) for day in value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value) or ""
        try:
            return [int(day) for day in text.replace(",", " ").split()]
        except ValueError:
            raise forms.ValidationError("List the days as numbers, such as 3, 5, 7.") from None

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial or []) != data)


class BillingSettingsForm(forms.ModelForm):
    retry_days = DaysField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=BillingSettings._meta.get_field("retry_days").help_text + " Such as 3, 5, 7.",
    )


@admin.register(BillingSettings)
class BillingSettingsAdmin(ModelAdmin):
    """One row, which is always there."""

    form = BillingSettingsForm
    fieldsets = [
        ("Checkout", {"fields": ["allow_promotion_codes", "collect_tax_ids", "automatic_tax"]}),
        ("As you have set it at Stripe", {"fields": ["retry_days", "after_retries"]}),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: BillingSettings | None = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:billing_billingsettings_change", BillingSettings.load().pk)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> BillingSettings | None:
        BillingSettings.load()
        return super().get_object(request, object_id, from_field)

    def save_model(self, request: HttpRequest, obj: BillingSettings, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if "automatic_tax" in form.changed_data and obj.automatic_tax:
            warn_of_tax(request)


def warn_of_tax(request: HttpRequest) -> None:
    """Say at once what is missing for automatic tax: every checkout would fail otherwise."""
    try:
        outcome, detail = setting_up.check_tax()
    except BillingError as error:
        messages.warning(request, f"Whether Stripe Tax is ready could not be found out: {error}")
        return
    if outcome != "unchanged":
        messages.warning(request, detail)


class AcknowledgeForm(forms.Form):
    note = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        label="What was done about it",
        help_text="Such as: the customer was deleted; the units are billed by hand on invoice 42.",
    )


class SeenFilter(admin.SimpleListFilter):
    title = "acknowledged"
    parameter_name = "acknowledged"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "Not yet"), ("yes", "Acknowledged")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ThinEvent]) -> QuerySet[ThinEvent]:
        if self.value() == "no":
            return queryset.filter(acknowledged_at=None)
        return queryset.exclude(acknowledged_at=None) if self.value() == "yes" else queryset


@admin.register(ThinEvent)
class ThinEventAdmin(ReadOnlyAdmin):
    list_display = ["created", "kind", "meter", "errors", "what", "state"]
    list_display_links = ["created"]
    list_filter = [SeenFilter, "type"]
    search_fields = ["id", "related_id", "note"]
    search_help_text = "Stripe's id of the event or meter, or words of the note"
    fields = [
        "id",
        "type",
        "meter",
        "created",
        "received_at",
        "what",
        "codes_shown",
        "samples_shown",
        ("acknowledged_at", "acknowledged_by"),
        "note",
    ]
    readonly_fields = ["meter", "what", "codes_shown", "samples_shown"]
    list_select_related = ["acknowledged_by"]
    actions = ["acknowledge_selected"]
    actions_detail = ["acknowledge_one"]

    # By a method, because unfold looks a permission's name up in the database, at its checks too, which come before
    # the first migration.
    def has_acknowledge_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("billing.change_thinevent")

    @action(description="Acknowledge …", permissions=["acknowledge"])
    def acknowledge_selected(
        self, request: HttpRequest, queryset: QuerySet[ThinEvent]
    ) -> HttpResponse | None:
        return self.ask_for_a_note(request, queryset)

    @action(description="Acknowledge", url_path="acknowledge", permissions=["acknowledge"])
    def acknowledge_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        event = get_object_or_404(ThinEvent, pk=unquote(object_id))
        answer = self.ask_for_a_note(request, ThinEvent.objects.filter(pk=event.pk))
        return answer or redirect("admin:billing_thinevent_change", quote(event.pk))

    def ask_for_a_note(self, request: HttpRequest, events: QuerySet[ThinEvent]) -> HttpResponse | None:
        """Acknowledge the events with the note that was sent; without one, return the page that asks for it."""
        open_ones = events.filter(acknowledged_at=None)
        form = AcknowledgeForm(request.POST if "note" in request.POST else None)
        if form.is_valid():
            note = form.cleaned_data["note"]
            done = sum(event.acknowledge(by=request.user, note=note) for event in open_ones)  # type: ignore[arg-type]
            messages.success(request, f"Acknowledged: {done}.")
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Acknowledge meter errors",
            "opts": self.opts,
            "form": form,
            "events": list(open_ones),
            "action_name": request.POST.get("action", ""),
            "back": reverse("admin:billing_thinevent_changelist"),
        }
        return TemplateResponse(request, "admin/billing/acknowledge.html", context)

    @admin.display(description="kind", ordering="type")
    def kind(self, event: ThinEvent) -> str:
        return {
            "v1.billing.meter.error_report_triggered": "Usage rejected",
            "v1.billing.meter.no_meter_found": "Usage for no meter",
            "v2.core.event_destination.ping": "Test event",
        }.get(event.type, event.type)

    @admin.display(description="meter", empty_value="-")
    def meter(self, event: ThinEvent) -> str | None:
        if not event.related_id or not event.is_meter_error:
            return None
        known = Meter.objects.filter(stripe_meter_id=event.related_id).first()
        return known.name if known else event.related_id

    @admin.display(description="events rejected", empty_value="-")
    def errors(self, event: ThinEvent) -> int | None:
        return event.error_count

    @admin.display(description="what happened", empty_value="-")
    def what(self, event: ThinEvent) -> str | None:
        if event.is_meter_error and event.fetched_at is None:
            return "Stripe's details are on their way."
        return event.summary or None

    @display(
        description="state", label={"to see to": "danger", "acknowledged": "success", "nothing to do": "info"}
    )
    def state(self, event: ThinEvent) -> str:
        if not event.is_meter_error:
            return "nothing to do"
        return "acknowledged" if event.acknowledged_at else "to see to"

    @admin.display(description="why", empty_value="-")
    def codes_shown(self, event: ThinEvent) -> str | None:
        return (
            format_html_join("", "<p>{}: {}</p>", [(code, count) for code, count in event.codes.items()])
            or None
        )

    @admin.display(description="samples", empty_value="-")
    def samples_shown(self, event: ThinEvent) -> str | None:
        rows = [(each.identifier, each.message) for each in event.samples]
        return format_html_join("", "<p>Identifier {}: {}</p>", rows) or None
