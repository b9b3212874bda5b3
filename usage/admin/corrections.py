from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import action, display

from accounts.admin import ReadOnlyAdmin
from usage.corrections import try_again
from usage.models import Correction

STATE_COLOURS = {"sent": "success", "free": "success", "failed": "danger", "unknown": "warning"}


@admin.register(Correction)
class CorrectionAdmin(ReadOnlyAdmin):
    list_display = [
        "created_at",
        "organization",
        "meter",
        "period_start",
        "units",
        "cost",
        "shown_state",
        "reason",
    ]
    list_select_related = ["organization", "meter"]
    list_filter = ["state", "meter"]
    search_fields = ["organization__name", "organization__ref", "invoice_item", "id"]
    search_help_text = "Organization's name or ref, Stripe's ii_… id, or the correction's id"
    date_hierarchy = "created_at"
    actions = ["send_again"]

    @display(description="state", label=STATE_COLOURS, ordering="state")
    def shown_state(self, correction: Correction) -> tuple[str, str]:
        return correction.state, correction.get_state_display()

    @admin.display(description="amount", ordering="amount")
    def cost(self, correction: Correction) -> str:
        return correction.amount_said

    def has_correct_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("usage.make_correction")

    @action(description="Send to Stripe again", permissions=["correct"])
    def send_again(self, request: HttpRequest, chosen: QuerySet[Correction]) -> None:
        """Those that Stripe refused, after what it complained of was mended."""
        sent = sum(try_again(each).state == Correction.State.SENT for each in chosen.filter(state="failed"))
        level = messages.SUCCESS if sent else messages.WARNING
        messages.add_message(request, level, f"Stripe took {sent} of {len(chosen)}.")
