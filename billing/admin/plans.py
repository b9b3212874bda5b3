from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from billing.admin.moving import MovingViews
from billing.admin.plan_forms import (
    FeeForm,
    FeeFormSet,
    OverageForm,
    OverageFormSet,
    QuotaForm,
    QuotaFormSet,
    link,
)
from billing.admin.publishing import PublishingViews
from billing.models import Plan, PlanPrice, PlanQuota
from billing.subscribers import count_on_any, count_subscribers, counted, why_kept
from billing.tasks import enqueue, refresh_entitlements
from billing.templatetags.money import money
from billing.terms import describe


class PlanInline(TabularInline):
    def get_extra(self, request: HttpRequest, obj: Plan | None = None, **kwargs: Any) -> int:
        return 0 if obj else 1


class PlanQuotaInline(PlanInline):
    model = PlanQuota
    form = QuotaForm
    formset = QuotaFormSet
    hide_title = True
    verbose_name = "quota"
    verbose_name_plural = "Quotas: what the plan includes each month"


class PriceInline(PlanInline):
    model = PlanPrice
    readonly_fields = ["state"]
    hide_title = True

    @admin.display(description="at Stripe")
    def state(self, price: PlanPrice) -> str:
        if not price.pk:
            return "-"
        return state_of(price)


class FeeInline(PriceInline):
    form = FeeForm
    formset = FeeFormSet
    fields = ["interval", "currency", "unit_amount", "lookup_key", "state"]
    verbose_name = "fee"
    verbose_name_plural = "Fees: what it costs, one for each interval and currency it is sold in"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanPrice]:
        prices: QuerySet[PlanPrice] = super().get_queryset(request)
        return prices.filter(meter=None)


class OverageInline(PriceInline):
    form = OverageForm
    formset = OverageFormSet
    fields = ["meter", "currency", "tiers", "lookup_key", "state"]
    verbose_name = "overage price"
    verbose_name_plural = (
        "Overage: what units beyond the included ones cost; free ones are added by themselves"
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[PlanPrice]:
        prices: QuerySet[PlanPrice] = super().get_queryset(request)
        return prices.exclude(meter=None).select_related("meter").prefetch_related("tiers")


def state_of(price: PlanPrice) -> str:
    """Return in words whether Stripe sells the price as it is here, and to how many."""
    if not price.stripe_price_id:
        return "Not published yet"
    unit = price.meter.unit if price.meter else "unit"
    what = (
        "Published"
        if price.is_published
        else f"Changed since it was published: Stripe has “{describe(price.published_terms, unit=unit)}”"
        if price.published_terms
        else "Not published yet"
    )
    count = count_subscribers([price.stripe_price_id])[price.stripe_price_id]
    return f"{what}. {counted(count, 'subscriber')} on it." if count else f"{what}."


def reason_of(plan: Plan) -> str:
    """Return why a plan is kept, looked up once for a page that asks again and again."""
    known: dict[str, str] = plan.__dict__
    if "_reason" not in known:
        known["_reason"] = why_kept(plan)
    return known["_reason"]


@admin.register(Plan)
class PlanAdmin(PublishingViews, MovingViews, ModelAdmin):
    list_display = [
        "name",
        "slug",
        "price",
        "rate",
        "included",
        "api_keys",
        "is_public",
        "is_default",
        "at_stripe",
        "organizations",
    ]
    list_filter = ["is_public"]
    search_fields = ["name", "slug"]
    fieldsets = [
        (None, {"fields": [("name", "slug"), "description"]}),
        ("Limits", {"fields": [("rate_per_minute", "burst"), ("api_key_limit", "trial_days")]}),
        ("Offer", {"fields": ["order", ("is_public", "is_default")]}),
    ]
    change_fieldsets = [("State", {"fields": ["stripe_product", "subscribers", "deleting"]})]
    inlines = [PlanQuotaInline, FeeInline, OverageInline]
    actions_list = ["publish_all"]
    actions_detail = ["publish", "adopt", "move_subscribers"]
    actions_submit_line = ["make_default"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        plans = super().get_queryset(request)
        return plans.annotate(organizations=Count("entitlements")).prefetch_related(
            "prices__meter", "prices__tiers", "quotas__meter"
        )

    def get_fieldsets(self, request: HttpRequest, obj: Plan | None = None) -> Any:
        return [*self.fieldsets, *(self.change_fieldsets if obj else [])]

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        fields = ["stripe_product", "subscribers", "deleting"]
        # Unset for a moment, the default plan would leave nobody entitled to anything: another one is made it.
        if Plan.objects.filter(is_default=True).exists():
            fields.append("is_default")
        # The slug is part of the product's id and of the lookup keys at Stripe.
        return [*fields, "slug"] if obj else fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_default": not Plan.objects.exists(), **super().get_changeform_initial_data(request)}

    def _create_formsets(self, request: HttpRequest, obj: Plan | None, change: bool) -> Any:
        formsets, inlines = super()._create_formsets(request, obj, change)
        link(formsets)
        return formsets, inlines

    def get_actions(self, request: HttpRequest) -> dict[str, object]:
        # Deleting many at once asks about none of them.
        actions: dict[str, object] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj is not None and reason_of(obj))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        plan = self.get_object(request, object_id)
        reason = why_kept(plan) if plan and super().has_delete_permission(request, plan) else ""
        if plan and reason:
            messages.error(request, reason)
            return HttpResponseRedirect(reverse("admin:billing_plan_change", args=[plan.pk]))
        return super().delete_view(request, object_id, extra_context)

    def get_actions_submit_line(self, request: HttpRequest, object_id: int | str) -> Any:
        actions = super().get_actions_submit_line(request, object_id)
        is_default = Plan.objects.filter(pk=object_id, is_default=True).exists()
        return [] if is_default else actions

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        gone = [
            (
                describe(price.published_terms),
                count_subscribers([price.stripe_price_id])[price.stripe_price_id],
            )
            for price in getattr(formset, "deleted_forms", [])
            for price in [price.instance]
            if isinstance(price, PlanPrice) and price.stripe_price_id and price.published_terms
        ]
        super().save_formset(request, form, formset, change)
        for terms, count in gone:
            if count:
                messages.warning(
                    request, f"{terms} is sold no more. {counted(count, 'subscriber')} on it, and stay."
                )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        plan: Plan = form.instance
        plan.arrange_metered_prices()
        if any(not price.is_published for price in plan.prices.select_related("meter", "plan")):
            messages.info(request, f"Stripe does not sell {plan} like this yet: press Publish to make it so.")
        # Limits live in each organization's entitlement too, which is what the gate goes by.
        transaction.on_commit(partial(enqueue, refresh_entitlements, plan.pk))

    @action(description="Save and make default", permissions=["change"])
    def make_default(self, request: HttpRequest, plan: Plan) -> None:
        plan.make_default()
        messages.success(request, f"{plan} is the plan of organizations without a paid one now.")
        transaction.on_commit(partial(enqueue, refresh_entitlements))

    @admin.display
    def price(self, plan: Plan) -> str:
        fees = plan.fees()
        return ", ".join(f"{money(fee.unit_amount, fee.currency)} a {fee.interval}" for fee in fees) or "-"

    @admin.display(description="calls a minute", ordering="rate_per_minute")
    def rate(self, plan: Plan) -> str:
        if plan.rate_per_minute is None:
            return "unlimited"
        at_once = "" if plan.burst is None else f", {plan.burst:,} at once"
        return f"{plan.rate_per_minute:,}{at_once}"

    @admin.display(description="API keys", ordering="api_key_limit")
    def api_keys(self, plan: Plan) -> str:
        return "unlimited" if plan.api_key_limit is None else f"{plan.api_key_limit:,}"

    @admin.display(description="included a month")
    def included(self, plan: Plan) -> str:
        return ", ".join(
            f"{'unlimited' if quota.included is None else f'{quota.included:,}'} {quota.meter.unit}s"
            for quota in plan.quotas.all()
        )

    @admin.display(description="at Stripe")
    def at_stripe(self, plan: Plan) -> str:
        prices = plan.prices.all()
        if not prices:
            return "not sold"
        return "published" if all(price.is_published for price in prices) else "to be published"

    @admin.display(ordering="organizations")
    def organizations(self, plan: Plan) -> int:
        count: int = plan.organizations  # type: ignore[attr-defined]
        return count

    @admin.display
    def subscribers(self, plan: Plan) -> SafeString | str:
        prices = [price.stripe_price_id for price in plan.prices.all() if price.stripe_price_id]
        known = plan.published_prices.values_list("stripe_price_id", flat=True)
        older = count_on_any(set(known) - set(prices))
        current = count_on_any({*known, *prices}) - older
        if not older:
            return f"{counted(current, 'subscriber')} on the current prices." if current else "None."
        return format_html(
            '{} on the current prices; {} on older ones. <a class="font-semibold text-primary-600" href="{}">'
            "See who, and move them</a>",
            counted(current, "subscriber"),
            older,
            reverse("admin:billing_plan_move_subscribers", args=[plan.pk]),
        )

    @admin.display
    def deleting(self, plan: Plan) -> str:
        return reason_of(plan) or "Nobody has ever been on it: it can be deleted."
