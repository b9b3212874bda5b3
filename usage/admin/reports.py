from typing import Any

from django.contrib import admin, messages
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from accounts.admin import ReadOnlyAdmin
from billing.errors import StripeUnavailable
from usage.lateness import find_missed_invoice
from usage.models import MeterReport
from usage.settling import put_back

State = MeterReport.State
# Of those that are to be sent again.
SHOWN = 200


class NoticedFilter(admin.SimpleListFilter):
    title = "what became of it"
    parameter_name = "noticed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("counted-not", "Taken and not counted"),
            ("too-old", "Too old for Stripe"),
            ("settled", "Decided by Stripe's sums"),
            ("in-doubt", "In doubt"),
            ("resent", "Sent anew"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[MeterReport]) -> QuerySet[MeterReport]:
        chosen: dict[str, dict[str, Any]] = {
            "counted-not": {"refused_at__isnull": False},
            "too-old": {"state": State.REJECTED, "rejection_code": MeterReport.TOO_OLD},
            "settled": {"settled_as__gt": ""},
            "in-doubt": {"state": State.UNKNOWN},
            "resent": {"resends__gt": 0},
        }
        return queryset.filter(**chosen.get(self.value() or "", {}))


@admin.register(MeterReport)
class MeterReportAdmin(ReadOnlyAdmin):
    list_display = ["hour", "whose", "meter", "units", "state_shown", "tries", "sent_at", "last_error"]
    list_display_links = ["hour"]
    list_select_related = ["organization", "meter"]
    list_filter = ["state", NoticedFilter, "meter", "rejection_code"]
    list_before_template = "admin/usage/report_totals.html"
    search_fields = ["organization__name", "organization__ref", "id", "stripe_customer_id"]
    search_help_text = "Organization's name or ref, the report's id, or the customer's id at Stripe"
    date_hierarchy = "hour"
    readonly_fields = ["identifier", "missed_invoice"]
    actions = ["send_again_selected"]

    # By a method, because unfold looks a permission's name up in the database, at its checks too, which come before
    # the first migration.
    def has_resend_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return request.user.has_perm("usage.change_meterreport")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        changes = (getattr(response, "context_data", None) or {}).get("cl")
        if changes is not None:
            response.context_data["totals"] = totals_of(changes.queryset)
        return response

    @action(description="Send again …", permissions=["resend"])
    def send_again_selected(
        self, request: HttpRequest, queryset: QuerySet[MeterReport]
    ) -> HttpResponse | None:
        rejected = queryset.filter(state=State.REJECTED)
        chosen = rejected.exclude(rejection_code=MeterReport.TOO_OLD)
        if "confirmed" in request.POST:
            count = put_back(list(chosen.values_list("pk", flat=True)))
            messages.success(request, f"Back in line: {count}. They are sent within a minute.")
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Send rejected reports again",
            "opts": self.opts,
            "reports": chosen.select_related("organization", "meter").order_by("hour")[:SHOWN],
            "more": max(chosen.count() - SHOWN, 0),
            # A form has no room for the ids of very many.
            "is_all": request.POST.get("select_across") == "1",
            "units": chosen.aggregate(total=Sum("units"))["total"] or 0,
            "left_out": queryset.count() - chosen.count(),
            "back": reverse("admin:usage_meterreport_changelist"),
        }
        return TemplateResponse(request, "admin/usage/send_again.html", context)

    @admin.display(description="organization", ordering="organization__name")
    def whose(self, report: MeterReport) -> str:
        link = reverse("admin:accounts_organization_change", args=[report.organization_id])
        return format_html('<a href="{}">{}</a>', link, report.organization)

    @display(
        description="state",
        ordering="state",
        label={
            State.PENDING: "info",
            State.SENDING: "info",
            State.SENT: "success",
            State.UNKNOWN: "warning",
            State.REJECTED: "danger",
        },
    )
    def state_shown(self, report: MeterReport) -> tuple[str, str]:
        return report.state, report.state

    @admin.display(description="missing on the invoice", empty_value="-")
    def missed_invoice(self, report: MeterReport) -> str | None:
        try:
            period = find_missed_invoice(report)
        except StripeUnavailable as error:
            return f"Not known: {error}"
        if period is None:
            return None
        return (
            f"It came after {period.invoice_id} was closed, on {period.finalized_at:%Y-%m-%d at %H:%M} UTC."
        )


def totals_of(reports: QuerySet[MeterReport]) -> list[dict[str, Any]]:
    """Return for each state that some of the reports are in how many they are, and their units."""
    rows = reports.order_by().values("state").annotate(reports=Count("pk"), units=Sum("units"))
    by_state = {row["state"]: row for row in rows}
    return [{"label": state.label, **by_state[state.value]} for state in State if state.value in by_state]
