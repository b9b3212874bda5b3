"""Staff's pages of the proof: what differs comes first, with its causes, and is checked anew or repaired here."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from accounts.admin import ReadOnlyAdmin
from billing.errors import BillingError
from billing.models import BillingCustomer
from usage import corrections
from usage.corrections import CannotCorrect, Proposal
from usage.models import Correction, Proof
from usage.proof import prove_one
from usage.proof.accepting import CannotAccept, accept
from usage.proof.titles import title_of
from usage.repair import repair

MAY_REPAIR = "usage.repair"
MAY_CORRECT = "usage.make_correction"
MAY_ACCEPT = "usage.accept"
STATUS_COLOURS = {
    "proven": "success",
    "running": "info",
    "waiting": "warning",
    "differs": "danger",
    "accepted": "info",
}


@admin.register(Proof)
class ProofAdmin(ReadOnlyAdmin):
    list_display = [
        "organization",
        "meter",
        "period",
        "shown_status",
        "ledger",
        "rollups",
        "reported",
        "stripe",
        "invoiced",
        "corrected",
        "difference",
        "checked_at",
    ]
    list_select_related = ["organization", "meter"]
    list_filter = ["status", "meter"]
    search_fields = ["organization__name", "organization__ref"]
    search_help_text = "Organization's name or ref"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Proof]:
        return Proof.objects.worst_first()

    def get_ordering(self, request: HttpRequest) -> list[str]:
        return ["rank", "-period_start", "pk"]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [path("<int:pk>/do/<slug:deed>/", view(self.do_view), name="usage_proof_do")]
        return own + super().get_urls()

    @admin.display(ordering="period_start")
    def period(self, proof: Proof) -> str:
        return f"{proof.period_start:%Y-%m-%d} to {proof.period_end:%Y-%m-%d}"

    @display(description="status", label=STATUS_COLOURS, ordering="status")
    def shown_status(self, proof: Proof) -> tuple[str, str]:
        return proof.status, proof.get_status_display()

    @admin.display(description="difference", empty_value="-")
    def difference(self, proof: Proof) -> str | None:
        return "; ".join(f"{c['units']:,} {title_of(c['code'])}" for c in proof.differences) or None

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        proof = self.get_object(request, object_id)
        if proof is None:
            raise Http404
        if not self.has_view_permission(request, proof):
            raise PermissionDenied
        proposal, obstacle = find_proposal(proof)
        of_it = Correction.objects.filter(
            organization=proof.organization, meter=proof.meter, period_start=proof.period_start
        )
        context = {
            **self.admin_site.each_context(request),
            "title": f"{proof.meter} of {proof.organization}, {self.period(proof)}",
            "opts": self.opts,
            "proof": proof,
            "organization": proof.organization,
            "colour": STATUS_COLOURS[proof.status],
            "proposal": proposal,
            "obstacle": obstacle,
            "corrections": of_it.order_by("number"),
            "may_repair": request.user.has_perm(MAY_REPAIR),
            "may_correct": request.user.has_perm(MAY_CORRECT),
            "may_accept": request.user.has_perm(MAY_ACCEPT),
            "snapshot": json.dumps(proof.snapshot),
            "links": self.links_of(request, proof),
        }
        return TemplateResponse(request, "admin/usage/proof.html", context)

    def links_of(self, request: HttpRequest, proof: Proof) -> list[tuple[str, str]]:
        """Return where else staff look, as far as they may."""
        period = urlencode({"q": proof.organization.ref, "period_start": proof.period_start.isoformat()})
        wanted = [
            ("Customer", "billing.view_billingcustomer", "billing_billingcustomer_change"),
            ("Reports of the period", "usage.view_meterreport", "usage_meterreport_changelist"),
            ("Hourly sums of the period", "usage.view_usagerollup", "usage_usagerollup_changelist"),
            ("Corrections of the period", "usage.view_correction", "usage_correction_changelist"),
        ]
        links = []
        for label, permission, name in wanted:
            if request.user.has_perm(permission):
                is_page = name.endswith("_change")
                address = reverse(f"admin:{name}", args=[proof.organization_id] if is_page else [])
                links.append((label, address if is_page else f"{address}?{period}"))
        return links

    def do_view(self, request: HttpRequest, pk: int, deed: str) -> HttpResponse:
        """Do one of the deeds, and say what came of it."""
        if deed not in DEEDS:
            raise Http404
        permission, do = DEEDS[deed]
        if request.method != "POST" or not request.user.has_perm(permission):
            raise PermissionDenied
        proof = get_object_or_404(Proof.objects.select_related("organization", "meter"), pk=pk)
        if not self.has_view_permission(request, proof):
            raise PermissionDenied
        try:
            said, is_well = do(request, proof)
        except (BillingError, CannotCorrect, CannotAccept) as error:
            said, is_well = str(error), False
        messages.add_message(request, messages.SUCCESS if is_well else messages.WARNING, said)
        customer = BillingCustomer.objects.get(pk=proof.organization_id)
        self.log_change(request, customer, f"Proof {deed}: {said}"[:1000])
        return redirect("admin:usage_proof_change", pk)


def find_proposal(proof: Proof) -> tuple[Proposal | None, str]:
    """Return the correction that the period needs and, where there is none to make, why not."""
    if proof.status != Proof.Status.DIFFERS:
        return None, ""
    try:
        return corrections.propose(proof), ""
    except (CannotCorrect, BillingError) as error:
        return None, str(error)


def check_now(request: HttpRequest, proof: Proof) -> tuple[str, bool]:
    fresh = prove_one(proof)
    return f"Counted anew: {fresh.get_status_display().lower()}.", fresh.status != Proof.Status.DIFFERS


def repair_now(request: HttpRequest, proof: Proof) -> tuple[str, bool]:
    outcome = repair(proof.organization, corrects=request.user.has_perm(MAY_CORRECT))
    done = " ".join(outcome.done) or "Nothing had to be done."
    left = f" Left: {' '.join(outcome.left)}" if outcome.left else ""
    return f"{done}{left}", not outcome.left


def correct_now(request: HttpRequest, proof: Proof) -> tuple[str, bool]:
    """Make the correction that was shown. Raises CannotCorrect where it is another one by now."""
    proposal = corrections.propose(proof)
    agreed = tuple(request.POST.get(name) for name in ("after", "units", "amount"))
    if agreed != (str(proposal.after), str(proposal.units), str(proposal.amount)):
        raise CannotCorrect("The figures have changed. Nothing was done: look again.")
    correction = corrections.make(proposal, by=str(request.user))
    if correction.state == Correction.State.PENDING:
        correction = corrections.send(correction.pk)
    prove_one(proof)
    return f"{correction.description}: {correction.get_state_display()}.", True


def accept_now(request: HttpRequest, proof: Proof) -> tuple[str, bool]:
    """Accept the differences that were shown. Raises CannotAccept."""
    try:
        seen = json.loads(request.POST.get("seen", ""))
    except (ValueError, RecursionError) as error:
        raise CannotAccept("It is not said what is accepted: look again.") from error
    kept = accept(proof, seen=seen, reason=request.POST.get("reason", ""), by=str(request.user))
    return f"Accepted as it is: {kept.accepted_reason}", True


# What it takes to be let in, and what is done; what was done is kept in the customer's history.
DEEDS: dict[str, tuple[str, Callable[[HttpRequest, Proof], tuple[str, bool]]]] = {
    "check": (MAY_REPAIR, check_now),
    "repair": (MAY_REPAIR, repair_now),
    "correct": (MAY_CORRECT, correct_now),
    "accept": (MAY_ACCEPT, accept_now),
}
