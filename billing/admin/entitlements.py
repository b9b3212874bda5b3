from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from billing.models import Entitlement


@admin.register(Entitlement)
class EntitlementAdmin(ReadOnlyAdmin):
    list_display = ["organization", "plan", "status", "period_start", "period_end", "version", "changed_at"]
    list_select_related = ["organization", "plan"]
    list_filter = ["plan", "status"]
    search_fields = ["organization__name", "organization__ref", "organization__email", "subscription_id"]
    search_help_text = "Organization's name, ref or e-mail, or Stripe's subscription id"
    ordering = ["-changed_at"]
