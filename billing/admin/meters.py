from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action

from billing.admin.publishing import PublicationPages
from billing.meters import why_fixed, why_kept
from billing.models import Meter, PlanQuota

FIXED = ("slug", "aggregation")


class MeterForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        changed = [name for name in FIXED if name in self.changed_data]
        if self.instance.pk and changed:
            # With its row locked, since whoever uses it meanwhile has to be seen.
            meter = Meter.objects.select_for_update().get(pk=self.instance.pk)
            reason = why_fixed(meter)
            if reason:
                self.add_error(changed[0], reason)
        return cleaned


@admin.register(Meter)
class MeterAdmin(PublicationPages, ModelAdmin):
    form = MeterForm
    list_display = ["name", "slug", "unit", "aggregation", "counted_by", "plans", "at_stripe"]
    search_fields = ["name", "slug"]
    fields = ["name", "unit", "slug", "aggregation"]
    state = ["counted_by", "at_stripe", "changing", "deleting"]
    actions_detail = ["publish"]

    def get_fieldsets(self, request: HttpRequest, obj: Meter | None = None) -> Any:
        return [(None, {"fields": self.fields}), *([("State", {"fields": self.state})] if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Meter | None = None) -> list[str]:
        # Events, counters and Stripe's meter are known by the slug, and were counted by the aggregation.
        return [*self.state, *(FIXED if obj and reason_of(obj, why_fixed) else [])]

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        # Deleting many at once asks about none of them.
        actions: dict[str, object] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: Meter | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and reason_of(obj, why_kept))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        with transaction.atomic():
            found = self.get_object(request, object_id)
            meter = Meter.objects.select_for_update().filter(pk=found.pk).first() if found else None
            reason = why_kept(meter) if meter and super().has_delete_permission(request, meter) else ""
            if meter and reason:
                messages.error(request, reason)
                return HttpResponseRedirect(page_of(meter))
            return super().delete_view(request, object_id, extra_context)

    @action(description="Publish…", url_path="publish", icon="cloud_upload", permissions=["change"])
    def publish(self, request: HttpRequest, object_id: str) -> HttpResponse:
        meter: Meter | None = self.get_object(request, object_id)
        if meter is None:
            raise Http404(f"There is no meter {object_id}.")
        if not self.has_change_permission(request, meter):
            raise PermissionDenied
        return self.show_publication(
            request, [], meters=[meter], title=f"Publish {meter}", back=page_of(meter)
        )

    @admin.display(description="counted by")
    def counted_by(self, meter: Meter) -> str:
        return "calls and events" if meter.is_gated else "events alone"

    @admin.display
    def plans(self, meter: Meter) -> str:
        quotas = PlanQuota.objects.filter(meter=meter).order_by("plan__order")
        return ", ".join(quotas.values_list("plan__name", flat=True)) or "-"

    @admin.display(description="at Stripe")
    def at_stripe(self, meter: Meter) -> str:
        return meter.stripe_meter_id or "Not published yet"

    @admin.display(description="slug and aggregation")
    def changing(self, meter: Meter) -> str:
        return reason_of(meter, why_fixed) or "Nothing refers to it yet: they may be changed."

    @admin.display
    def deleting(self, meter: Meter) -> str:
        return reason_of(meter, why_kept) or "Nothing refers to it: it can be deleted."


def reason_of(meter: Meter, why: Callable[[Meter], str]) -> str:
    """Return why a meter is as it is, looked up once for a page that asks again and again."""
    known: dict[str, str] = meter.__dict__
    name = f"_{why.__name__}"
    if name not in known:
        known[name] = why(meter)
    return known[name]


def page_of(meter: Meter) -> str:
    return reverse("admin:billing_meter_change", args=[meter.pk])
