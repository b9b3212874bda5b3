import re
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from redis.exceptions import RedisError
from unfold.admin import ModelAdmin
from unfold.decorators import action

from accounts import clock
from apikeys.models import APIKey, APIKeyQuerySet
from apikeys.redaction import redact


class StatusFilter(admin.SimpleListFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "Active"),
            ("replaced", "Replaced, still working"),
            ("expired", "Expired"),
            ("revoked", "Revoked"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[APIKey]) -> QuerySet[APIKey]:
        active = APIKey.objects.active()
        match self.value():
            case "active":
                return queryset.filter(pk__in=active.filter(replaced_by=None).values("pk"))
            case "replaced":
                return queryset.filter(pk__in=active.exclude(replaced_by=None).values("pk"))
            case "expired":
                return queryset.filter(revoked_at=None, expires_at__lte=clock.now())
            case "revoked":
                return queryset.exclude(revoked_at=None)
        return queryset


@admin.register(APIKey)
class APIKeyAdmin(ModelAdmin):
    """Find and revoke. Only customers make keys, change what they may do, and see one in full."""

    list_display = [
        "prefix",
        "name",
        "organization",
        "mode",
        "created_at",
        "created_by",
        "last_used_at",
        "expires_at",
        "active",
    ]
    list_select_related = ["organization", "created_by"]
    list_filter = [StatusFilter, "mode", "revoked_for"]
    search_fields = ["prefix", "name", "organization__name", "organization__ref"]
    search_help_text = (
        "The key's first characters, its name, or its organization's name or ref. Never a whole key."
    )
    date_hierarchy = "created_at"
    fields = [
        "prefix",
        "name",
        "organization",
        "mode",
        "scopes",
        "allowed_networks",
        "rate_per_minute",
        "created_at",
        "created_by",
        "last_used_at",
        "expires_at",
        "replaced_by",
        "replaced_at",
        "revoked_at",
        "revoked_for",
    ]
    readonly_fields = fields
    actions = ["revoke"]
    actions_detail = ["revoke_one"]

    @admin.display(boolean=True, ordering="revoked_at")
    def active(self, key: APIKey) -> bool:
        return key.is_active

    @admin.action(description="Revoke: refuse the next call with them", permissions=["manage"])
    def revoke(self, request: HttpRequest, keys: APIKeyQuerySet) -> None:
        for key in keys.active().select_related("organization"):
            try:
                key.revoke(revoked_for=APIKey.RevokedFor.STAFF)
            except RedisError:
                self.message_user(request, f"“{key}” is not revoked yet: try again.", messages.ERROR)
            else:
                self.log_change(request, key, "Revoked")
                self.message_user(request, f"“{key}” is revoked.", messages.SUCCESS)

    @action(description="Revoke…", url_path="revoke", icon="block", permissions=["manage"])
    def revoke_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key: APIKey | None = self.get_object(request, object_id)
        if key is None:
            raise Http404(f"There is no API key {object_id}.")
        if not self.has_manage_permission(request):
            raise PermissionDenied
        page = reverse("admin:apikeys_apikey_change", args=[key.pk])
        if not key.is_active:
            messages.info(request, f"“{key}” is over already.")
            return redirect(page)
        if request.method == "POST":
            self.revoke(request, APIKey.objects.filter(pk=key.pk))
            return redirect(page)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Revoke {key.name}?",
            "opts": self.opts,
            "original": key,
            "key": key,
            "back": page,
        }
        return TemplateResponse(request, "admin/apikeys/revoke_key.html", context)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """List keys, but for a whole one as the search: that is cut to its first characters, and said.

        A search stands in the address, so in logs and histories, and the page repeats it.
        """
        asked = request.GET.get("q", "")
        cut = re.sub("…", "", redact(asked))
        if cut != asked:
            self.message_user(
                request,
                "That was a whole key: it now stands in the log of this site and in your browser's history. If it is "
                "in use, revoke it and tell its owner. Search by the first 20 characters, as was done here.",
                messages.WARNING,
            )
            query = {**request.GET.dict(), "q": cut}
            return HttpResponseRedirect(f"{request.path}?{urlencode(query)}")
        return super().changelist_view(request, extra_context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # Only the customer may see a secret, so staff cannot mint one.

    def has_change_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False  # Nothing of it can be edited; to revoke is an action.

    def has_manage_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("apikeys.change_apikey")

    def has_delete_permission(self, request: HttpRequest, obj: APIKey | None = None) -> bool:
        return False  # The ledger names it.
