from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from apikeys.models import CounterReading


@admin.register(CounterReading)
class CounterReadingAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "meter",
        "period_start",
        "counter",
        "ledger",
        "marked_at",
        "checked_at",
        "drift",
        "mended_units",
        "note",
    ]
    list_select_related = ["organization"]
    list_filter = ["meter", "checked_at"]
    search_fields = ["organization__name", "organization__ref"]
    search_help_text = "Organization's name or ref"
    date_hierarchy = "checked_at"
