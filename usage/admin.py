"""Usage, to look at. What was counted is what is billed, so nothing here may be edited.

The ledger's events are missing: Django's admin takes no model with a composite primary key.
"""

from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from usage.models import MeterReport, UsageRollup


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    list_display = ["hour", "organization", "meter", "endpoint", "units", "calls", "errors", "reported_units"]
    list_select_related = ["organization"]
    list_filter = ["meter"]
    search_fields = ["organization__name", "organization__ref"]
    search_help_text = "Organization's name or ref"
    date_hierarchy = "hour"
    ordering = ["-hour", "organization_id"]


@admin.register(MeterReport)
class MeterReportAdmin(ReadOnlyAdmin):
    list_display = ["hour", "organization", "meter", "units", "state", "tries", "sent_at", "last_error"]
    list_select_related = ["organization", "meter"]
    list_filter = ["state", "meter"]
    search_fields = ["organization__name", "organization__ref", "id"]
    search_help_text = "Organization's name or ref, or the report's id"
    date_hierarchy = "hour"
    readonly_fields = ["identifier"]
