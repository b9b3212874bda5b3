from django.contrib import admin

from accounts.admin import ReadOnlyAdmin
from billing.models import Trial


@admin.register(Trial)
class TrialAdmin(ReadOnlyAdmin):
    list_display = ["organization", "plan", "started_at", "ends_at", "outcome", "reason"]
    list_select_related = ["organization", "plan"]
    list_filter = ["outcome", "reason", "plan"]
    search_fields = ["organization__name", "organization__ref", "organization__email", "subscription_id"]
    search_help_text = "Organization's name, ref or e-mail, or Stripe's subscription id"
    ordering = ["-started_at"]
