"""The reconciliations, and the doctor's page."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounts import clock
from accounts.admin import ReadOnlyAdmin
from billing import doctor
from billing.doctor import CouldNotMend, Finding, UnknownCheck
from billing.models import BillingCustomer, ReconcileRun

MAY_MEND = "billing.mend"
EVERYTHING = "everything"


@admin.register(ReconcileRun)
class ReconcileRunAdmin(ReadOnlyAdmin):
    list_display = ["started_at", "scope", "took", "organizations", "repaired", "failures", "state"]
    list_filter = ["scope"]
    fields = [
        ("started_at", "finished_at"),
        "scope",
        ("organizations", "repaired", "failures"),
        "stopped",
        "findings_shown",
    ]
    readonly_fields = ["findings_shown"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("doctor/", view(self.doctor_view), name="billing_doctor"),
            path("doctor/mend/", view(self.mend_view), name="billing_doctor_mend"),
        ]
        return own + super().get_urls()

    @admin.display(description="took", empty_value="-")
    def took(self, run: ReconcileRun) -> str | None:
        if run.finished_at is None:
            return None
        seconds = int((run.finished_at - run.started_at).total_seconds())
        return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"

    @display(description="state", label={"under way": "info", "complete": "success", "stopped": "danger"})
    def state(self, run: ReconcileRun) -> str:
        if run.stopped:
            return "stopped"
        return "complete" if run.finished_at else "under way"

    @admin.display(description="findings", empty_value="-")
    def findings_shown(self, run: ReconcileRun) -> SafeString | None:
        return format_html_join("", "<p>{}{}</p>", map(shown, run.findings)) or None

    def doctor_view(self, request: HttpRequest) -> HttpResponse:
        """List the checks, and what those that were asked for find at this moment."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("check", "")
        findings: list[Finding] | None = None
        if asked:
            try:
                findings = doctor.examine(None if asked == EVERYTHING else [asked])
            except UnknownCheck as error:
                messages.error(request, str(error))
                asked = ""
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Doctor",
            "checks": doctor.all_checks(),
            "asked": asked,
            "findings": findings,
            "now": clock.now(),
            "may_mend": request.user.has_perm(MAY_MEND),
            "may_see_customers": request.user.has_perm("billing.view_billingcustomer"),
        }
        return TemplateResponse(request, "admin/billing/doctor.html", context)

    def mend_view(self, request: HttpRequest) -> HttpResponse:
        """Look once more for one finding, and mend it where it is still there."""
        if request.method != "POST" or not request.user.has_perm(MAY_MEND):
            raise PermissionDenied
        key = request.POST.get("finding", "")
        slug = key.partition(":")[0]
        try:
            found = {each.key: each for each in doctor.examine([slug])}
        except UnknownCheck as error:
            messages.error(request, str(error))
            return redirect("admin:billing_doctor")
        if key not in found:
            messages.info(request, "That is not so any more.")
        else:
            self.treat(request, found[key])
        asked = request.POST.get("asked") or slug
        return redirect(f"{reverse('admin:billing_doctor')}?{urlencode({'check': asked})}")

    def treat(self, request: HttpRequest, finding: Finding) -> None:
        try:
            doctor.treat(finding)
        except CouldNotMend as error:
            messages.error(request, f"{finding.sentence} It could not be mended: {error}")
        else:
            messages.success(request, f"Mended: {finding.sentence}")
        if finding.organization:
            self.log_on_customer(request, finding)

    def log_on_customer(self, request: HttpRequest, finding: Finding) -> None:
        """Keep in the customer's history who had what mended."""
        customer = BillingCustomer.objects.get(pk=finding.organization.pk)  # type: ignore[union-attr]
        self.log_change(request, customer, f"Doctor: {finding.sentence}"[:1000])


def shown(finding: dict[str, str]) -> tuple[SafeString | str, str]:
    """Return whom a finding is about, as a link, and what it says."""
    if "organization" not in finding:
        return "", finding["sentence"]
    address = reverse("admin:billing_billingcustomer_change", args=[finding["organization"]])
    link = format_html(
        '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>: ', address, finding["ref"]
    )
    return link, finding["sentence"]
