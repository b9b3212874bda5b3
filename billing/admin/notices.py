"""The e-mails to customers, and what became of them."""

from functools import partial

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from accounts.admin import ReadOnlyAdmin
from billing.delivery import send_again
from billing.models import Notice, NoticeState
from billing.tasks import enqueue, send_notice

COLOURS = {
    NoticeState.SENT: "success",
    NoticeState.PENDING: "info",
    NoticeState.SENDING: "info",
    NoticeState.UNSURE: "warning",
    NoticeState.FAILED: "danger",
}


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    list_display = ["organization", "kind", "state_shown", "created_at", "sent_at", "tries", "error"]
    list_select_related = ["organization"]
    list_filter = ["state", "kind"]
    search_fields = ["organization__name", "organization__ref", "organization__email", "recipient"]
    search_help_text = "Organization's name, ref or e-mail, or where it went"
    date_hierarchy = "created_at"
    fieldsets = [
        (None, {"fields": ["organization", "kind", "state", "recipient", "subject", "text"]}),
        (
            "Sending",
            {"fields": ["created_at", "sent_at", "tries", "next_try_at", "claimed_at", "error", "repeats"]},
        ),
        ("Occasion", {"fields": ["key", "context"]}),
    ]
    actions = ["send_once_more"]

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Who may change notices may send them: nothing else about them can be changed."""
        return request.user.has_perm("billing.change_notice")

    @admin.action(description="Send again", permissions=["send"])
    def send_once_more(self, request: HttpRequest, queryset: QuerySet[Notice]) -> None:
        """Send again what was sent, failed, or may have been lost. It is only sent if it is still true."""
        done = 0
        for notice in queryset:
            if send_again(notice):
                self.log_change(request, notice, "Sent again.")
                transaction.on_commit(partial(enqueue, send_notice, str(notice.pk)))
                done += 1
        if done:
            messages.success(request, f"{done} will be sent within a minute, if what it says is still true.")
        if len(queryset) > done:
            messages.warning(request, f"{len(queryset) - done} waits to be sent, or is being sent, already.")

    @display(description="state", label=COLOURS, ordering="state")
    def state_shown(self, notice: Notice) -> tuple[str, str]:
        return notice.state, notice.get_state_display()
