from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from accounts.admin import ReadOnlyAdmin
from usage.admin.analytics import organization_page, overview_page
from usage.models import UsageRollup


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    """The sums themselves, and the pages that are made of them."""

    list_display = ["hour", "organization", "meter", "endpoint", "status", "units", "calls", "reported_units"]
    list_select_related = ["organization"]
    list_filter = ["meter"]
    search_fields = ["organization__name", "organization__ref"]
    search_help_text = "Organization's name or ref"
    date_hierarchy = "hour"
    ordering = ["-hour", "organization_id"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("overview/", view(self.overview_view), name="usage_overview"),
            path("of/<uuid:pk>/", view(self.organization_view), name="usage_organization"),
        ]
        return own + super().get_urls()

    def overview_view(self, request: HttpRequest) -> HttpResponse:
        self.let_in(request)
        return overview_page(request, self.admin_site, self.opts)

    def organization_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        self.let_in(request)
        return organization_page(request, self.admin_site, self.opts, pk)

    def let_in(self, request: HttpRequest) -> None:
        """Raise PermissionDenied for whoever may not look at usage."""
        if not self.has_view_permission(request):
            raise PermissionDenied
