from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from usage.models import MeterReport


@admin.register(MeterReport)
class MeterReportAdmin(ReadOnlyAdmin):
    list_display = ["hour", "organization", "meter", "units", "state", "tries", "sent_at", "last_error"]
    list_select_related = ["organization", "meter"]
    list_filter = ["state", "meter"]
    search_fields = ["organization__name", "organization__ref", "id"]
    search_help_text = "Organization's name or ref, or the report's id"
    date_hierarchy = "hour"
    readonly_fields = ["identifier"]
