"""Special limits that staff give to one organization."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from accounts import clock
from accounts.models import Organization, User
from billing.admin.plan_forms import quotas_in
from billing.entitlements import limits, lock_entitlement, refresh_entitlement
from billing.limits import counted, quota_line, rate_line
from billing.models import Entitlement, Meter, PlanOverride, PlanQuota, QuotaOverride
from billing.overage import charged_within
from billing.plan_rules import override_faults
from billing.subscriptions import find_live_subscription


class QuotaOverrideFormSet(BaseInlineFormSet):
    def clean(self) -> None:
        """Refuse an override that would give nothing: it was meant to; and one that bills what nothing bills."""
        super().clean()
        override: PlanOverride = self.instance
        kept = [form for form in self.forms if form.has_changed() or form.instance.pk]
        given = [form for form in kept if not form.cleaned_data.get("DELETE")]
        if not given and override.plan_id is None and not override.changes_rate:
            raise ValidationError("It gives nothing yet: choose a plan, another rate or another quota.")
        faults = self.faults([form.cleaned_data for form in given if form.is_valid()])
        if faults:
            raise ValidationError(faults)

    def faults(self, rows: list[dict[str, Any]]) -> list[str]:
        """Return what the customer's subscription cannot bill. What is over is read only: it bills nobody any more."""
        override: PlanOverride = self.instance
        organization = Organization.objects.filter(pk=override.organization_id).first()
        if organization is None or (override.ends_at and override.ends_at <= clock.now()):
            return []
        return override_faults(quotas_in(rows), subscription=find_live_subscription(organization))


class PlanOverrideForm(ModelForm):
    def clean_ends_at(self) -> datetime | None:
        ends_at: datetime | None = self.cleaned_data["ends_at"]
        if ends_at and ends_at <= clock.now() and "ends_at" in self.changed_data:
            raise ValidationError("That is over already. To end what is in force, use “End now” in the list.")
        return ends_at


class QuotaOverrideInline(TabularInline):
    model = QuotaOverride
    formset = QuotaOverrideFormSet
    extra = 0
    verbose_name = "quota"
    verbose_name_plural = "other quotas"


class InForceFilter(admin.SimpleListFilter):
    title = "time"
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("now", "In force"), ("later", "Not begun"), ("over", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PlanOverride]) -> QuerySet[PlanOverride]:
        now = clock.now()
        if self.value() == "now":
            return queryset.filter(starts_at__lte=now).exclude(ends_at__lte=now)
        if self.value() == "later":
            return queryset.filter(starts_at__gt=now)
        if self.value() == "over":
            return queryset.filter(ends_at__lte=now)
        return queryset


@admin.register(PlanOverride)
class PlanOverrideAdmin(ModelAdmin):
    """Given, changed and ended; what was given stays to be read, as the organization's usage must stay explainable."""

    form = PlanOverrideForm
    list_display = ["organization", "gives", "reason", "author", "starts_at", "ends_at", "in_force"]
    list_select_related = ["organization", "plan", "author"]
    list_filter = [InForceFilter, "plan"]
    search_fields = ["organization__name", "organization__ref", "organization__email", "reason"]
    search_help_text = "Organization's name, ref or e-mail, or the reason"
    ordering = ["-created_at"]
    autocomplete_fields = ["organization"]
    readonly_fields = ["author", "created_at"]
    fieldsets = [
        (None, {"fields": ["organization", "reason"]}),
        (
            "Limits",
            {
                "fields": ["plan", ("changes_rate", "rate_per_minute", "burst")],
                "description": "What is left empty stays as the plan has it. Other quotas are below. Of several "
                "overrides the one made last wins, limit by limit.",
            },
        ),
        ("Time", {"fields": ["starts_at", "ends_at", ("author", "created_at")]}),
    ]
    inlines = [QuotaOverrideInline]
    actions = ["end_now"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanOverride]:
        return super().get_queryset(request).prefetch_related("quotas__meter")

    def get_readonly_fields(self, request: HttpRequest, obj: PlanOverride | None = None) -> list[str]:
        # What one organization was given is not handed on to another.
        return ["author", "created_at", *(["organization"] if obj else [])]

    def has_delete_permission(self, request: HttpRequest, obj: PlanOverride | None = None) -> bool:
        if obj is not None and obj.starts_at <= clock.now():
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        actions: dict[str, object] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_model(self, request: HttpRequest, obj: PlanOverride, form: Any, change: bool) -> None:
        if not change and isinstance(request.user, User):
            obj.author = request.user
        # Before the row, or the gate might fill its copy in between.
        lock_entitlement(obj.organization)
        super().save_model(request, obj, form, change)

    def save_related(
        self, request: HttpRequest, form: Any, formsets: list[BaseInlineFormSet], change: bool
    ) -> None:
        super().save_related(request, form, formsets, change)
        # At once, in this transaction: it concerns one organization, and the gate has it by the next call.
        entitlement = refresh_entitlement(form.instance.organization)
        for warning in self.find_surprises(form.instance, entitlement):
            self.message_user(request, warning, messages.WARNING)

    def find_surprises(self, override: PlanOverride, entitlement: Entitlement) -> Iterator[str]:
        """Yield a sentence for each meter that is charged, or refused, otherwise than the override in force says."""
        asked = limits(entitlement.plan, [override])["quotas"] if self.in_force(override) else {}
        for meter in Meter.objects.filter(slug__in=entitlement.quotas):
            charging = charged_within(entitlement, meter)
            if charging:
                yield (
                    f"Stripe goes on charging {entitlement.organization} by the price they are on, whatever is "
                    f"included here: beyond {counted(charging.free, meter.unit)} a month, each costs what it did. What "
                    "that comes to you give back at Stripe, with a credit or a coupon."
                )
            is_billed = asked.get(meter.slug, {}).get("overage") == PlanQuota.Overage.BILL
            if is_billed and entitlement.quotas[meter.slug]["overage"] == PlanQuota.Overage.BLOCK:
                yield (
                    f"Further {meter.unit}s than the included ones are refused: {entitlement.organization} has no "
                    "subscription with a price for them, so they would be on no invoice."
                )

    def delete_model(self, request: HttpRequest, obj: PlanOverride) -> None:
        super().delete_model(request, obj)
        refresh_entitlement(obj.organization)

    @admin.action(description="End now", permissions=["change"])
    def end_now(self, request: HttpRequest, queryset: QuerySet[PlanOverride]) -> None:
        """End what is in force. What has not begun can be deleted, and what is over is over."""
        now, ended = clock.now(), 0
        for override in queryset.select_related("organization"):
            with transaction.atomic():
                lock_entitlement(override.organization)
                row = PlanOverride.objects.select_for_update().get(pk=override.pk)
                if row.starts_at < now and (row.ends_at is None or row.ends_at > now):
                    row.ends_at = now
                    row.save(update_fields=["ends_at"])
                    self.log_change(request, row, "Ended.")
                    refresh_entitlement(override.organization)
                    ended += 1
        left = len(queryset) - ended
        if ended:
            messages.success(request, f"{ended} ended. The gate has it by the next call.")
        if left:
            messages.warning(request, f"{left} not in force now, and left as before.")

    @admin.display(description="gives")
    def gives(self, override: PlanOverride) -> str:
        lines = [override.plan.name] if override.plan else []
        if override.changes_rate:
            lines.append(rate_line(override.rate_per_minute, burst=override.burst))
        lines += [
            quota_line({"included": quota.included, "overage": quota.overage}, unit=quota.meter.unit)
            for quota in override.quotas.all()
        ]
        return "; ".join(lines) or "nothing"

    @admin.display(boolean=True, description="in force")
    def in_force(self, override: PlanOverride) -> bool:
        now = clock.now()
        return override.starts_at <= now and (override.ends_at is None or override.ends_at > now)
