from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.tenancy import TenantRequest, organization_required
from usage.proof.asking import ask_for_count
from usage.proof.telling import list_proofs


@require_safe
@organization_required()
def usage_proof(request: TenantRequest) -> HttpResponse:
    """Show the customer that what was used is what is billed."""
    try:
        page = list_proofs(request.organization, limit=12, after=request.GET.get("after", ""))
    except LookupError as error:
        raise Http404 from error
    context = {
        "organization": request.organization,
        "page": page,
        "is_counting": ask_for_count(request.organization),
    }
    return render(request, "dashboard/usage_proof.html", context)
