from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import clock
from accounts.admin import ReadOnlyAdmin
from billing.limits import describe_limits
from billing.models import BillingSettings, Entitlement, Notice
from billing.timeline import find_charged, what_if_card_fails


@admin.register(Entitlement)
class EntitlementAdmin(ReadOnlyAdmin):
    """What each organization may do now, as it was computed; and what a failing card would make of it."""

    list_display = [
        "organization",
        "plan",
        "status",
        "access",
        "grace_end",
        "period_end",
        "changed_at",
        "what_if",
    ]
    list_select_related = ["organization", "plan"]
    list_filter = ["plan", "status", "access"]
    search_fields = ["organization__name", "organization__ref", "organization__email", "subscription_id"]
    search_help_text = "Organization's name, ref or e-mail, or Stripe's subscription id"
    ordering = ["-changed_at"]
    readonly_fields = ["limits", "links"]
    fieldsets = [
        (None, {"fields": ["organization", "links"]}),
        ("What they may do", {"fields": ["plan", "access", "limits", "period_start", "period_end"]}),
        (
            "Why",
            {
                "fields": [
                    "status",
                    "status_since",
                    "bought_plan",
                    "subscription_id",
                    "policy",
                    "grace_end",
                    "carried_from",
                ]
            },
        ),
        ("Upkeep", {"fields": ["valid_until", "version", "changed_at"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entitlement]:
        return super().get_queryset(request).select_related("bought_plan", "policy")

    def get_urls(self) -> list[URLPattern]:
        timeline = path(
            "<uuid:pk>/timeline/",
            self.admin_site.admin_view(self.timeline_view),
            name="billing_entitlement_timeline",
        )
        return [timeline, *super().get_urls()]

    def timeline_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show by date what happens to the organization if its card fails today, or what is happening."""
        entitlement = get_object_or_404(
            self.get_queryset(request).select_related("organization", "plan"), pk=pk
        )
        if not self.has_view_permission(request, entitlement):
            raise PermissionDenied
        organization = entitlement.organization
        charged, settings = find_charged(organization, now=clock.now()), BillingSettings.load()
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": f"{organization}: what a failing card leads to",
            "opts": self.opts,
            "organization": organization,
            "entitlement": entitlement,
            "subscription": charged.subscription if charged else None,
            "is_owing": bool(charged and charged.subscription.status in {"past_due", "unpaid"}),
            "entries": what_if_card_fails(organization, now=clock.now()),
            "settings": settings,
            "days": sentence_list([str(day) for day in settings.retry_days]),
            "notices": Notice.objects.filter(organization=organization)[:10],
            "may_see_notices": request.user.has_perm("billing.view_notice"),
            "headings": ["Date (UTC)", "What happens", "Status", "Access", "Banner", "E-mail"],
        }
        return TemplateResponse(request, "admin/billing/entitlement/timeline.html", context)

    @admin.display(description="if a card fails")
    def what_if(self, entitlement: Entitlement) -> SafeString:
        return link("Timeline", "billing_entitlement_timeline", entitlement.pk)

    @admin.display(description="limits")
    def limits(self, entitlement: Entitlement) -> str:
        return "; ".join(describe_limits(entitlement))

    @admin.display(description="see also")
    def links(self, entitlement: Entitlement) -> SafeString:
        organization = entitlement.organization
        of_organization = urlencode({"q": organization.ref})
        return format_html(
            "{} · {} · {} · {}",
            link("Organization", "accounts_organization_change", organization.pk),
            link("If its card fails", "billing_entitlement_timeline", organization.pk),
            link("Overrides", "billing_planoverride_changelist", query=of_organization),
            link("E-mails", "billing_notice_changelist", query=of_organization),
        )


def sentence_list(words: Sequence[str]) -> str:
    """Return “3”, “3 and 5”, “3, 5 and 7”."""
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last


def link(label: str, name: str, *args: object, query: str = "") -> SafeString:
    address = reverse(f"admin:{name}", args=args) + (f"?{query}" if query else "")
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, label)
