"""What Stripe has complained about, and what staff did about it."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html_join
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin
from billing.models import Meter, ThinEvent


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

    def get_queryset(self, request: HttpRequest) -> QuerySet[ThinEvent]:
        known = Meter.objects.filter(stripe_meter_id=OuterRef("related_id")).values("name")[:1]
        return super().get_queryset(request).annotate(meter_name=Subquery(known))

    @admin.display(description="kind", ordering="type")
    def kind(self, event: ThinEvent) -> str:
        return {
            "v1.billing.meter.error_report_triggered": "Usage rejected",
            "v1.billing.meter.no_meter_found": "Usage for no meter",
            "v2.core.event_destination.ping": "Test event",
        }.get(event.type, event.type)

    @admin.display(description="meter", empty_value="-")
    def meter(self, event: ThinEvent) -> str | None:
        if not event.is_meter_error:
            return None
        return event.meter_name or event.related_id or None  # type: ignore[attr-defined]  # annotated above

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
