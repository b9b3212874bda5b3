from functools import partial
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from billing.models import Meter, Plan, PlanPrice, PlanQuota
from billing.tasks import enqueue, refresh_entitlements
from billing.templatetags.money import money


class PlanQuotaInline(TabularInline):
    model = PlanQuota
    extra = 0


class PlanPriceInline(TabularInline):
    model = PlanPrice
    fields = ["meter", "interval", "currency", "unit_amount", "lookup_key", "stripe_price"]
    readonly_fields = ["lookup_key", "stripe_price"]
    extra = 0


@admin.register(Plan)
class PlanAdmin(ModelAdmin):
    list_display = ["name", "slug", "price", "rate", "included", "is_public", "is_default", "organizations"]
    list_filter = ["is_public"]
    search_fields = ["name", "slug"]
    fields = [
        ("name", "slug"),
        "description",
        "rate_per_minute",
        "order",
        ("is_public", "is_default"),
        "stripe_product",
    ]
    inlines = [PlanQuotaInline, PlanPriceInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        plans = super().get_queryset(request)
        return plans.annotate(organizations=Count("entitlements")).prefetch_related("prices", "quotas__meter")

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        # Unset for a moment, the default plan would leave nobody entitled to anything. The slug is part of
        # the product's id and of the lookup keys at Stripe.
        return ["is_default", "stripe_product", "slug"] if obj else ["is_default", "stripe_product"]

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        if obj is not None and (obj.is_default or obj.entitlements.exists()):
            return False
        return super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        # Deleting many at once asks about none of them.
        actions: dict[str, object] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        # Limits live in each organization's entitlement too, which is what the gate goes by.
        transaction.on_commit(partial(enqueue, refresh_entitlements, form.instance.pk))

    @admin.display
    def price(self, plan: Plan) -> str:
        price = plan.find_base_price()
        return f"{money(price.unit_amount, price.currency)} a {price.interval}" if price else "-"

    @admin.display(description="calls a minute", ordering="rate_per_minute")
    def rate(self, plan: Plan) -> str:
        return "unlimited" if plan.rate_per_minute is None else f"{plan.rate_per_minute:,}"

    @admin.display(description="included a month")
    def included(self, plan: Plan) -> str:
        return ", ".join(
            f"{'unlimited' if quota.included is None else f'{quota.included:,}'} {quota.meter.unit}s"
            for quota in plan.quotas.all()
        )

    @admin.display(ordering="organizations")
    def organizations(self, plan: Plan) -> int:
        count: int = plan.organizations  # type: ignore[attr-defined]
        return count


@admin.register(Meter)
class MeterAdmin(ModelAdmin):
    list_display = ["name", "slug", "unit", "stripe_meter_id"]
    search_fields = ["name", "slug"]
    fields = ["name", "slug", "unit", "stripe_meter_id"]

    def get_readonly_fields(self, request: HttpRequest, obj: Meter | None = None) -> list[str]:
        # Events and Stripe's meter are known by the slug.
        return ["stripe_meter_id", "slug"] if obj else ["stripe_meter_id"]

    def has_delete_permission(self, request: HttpRequest, obj: Meter | None = None) -> bool:
        return False  # Quotas, prices and reports refer to it, and Stripe keeps its meter for good.
