from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from usage.models import UsageRollup


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    list_display = ["hour", "organization", "meter", "endpoint", "status", "units", "calls", "reported_units"]
    list_select_related = ["organization"]
    list_filter = ["meter"]
    search_fields = ["organization__name", "organization__ref"]
    search_help_text = "Organization's name or ref"
    date_hierarchy = "hour"
    ordering = ["-hour", "organization_id"]
