from collections.abc import Iterator
from functools import partial

from django.db.models import Q

from accounts import clock
from billing.doctor import CouldNotMend, Finding, Fix, Severity, check
from usage.corrections.sending import LEASE
from usage.models import Correction, Proof
from usage.repair import repair

# What counting anew, and taking off or making anew a report, can mend: it charges nobody.
COUNTS = frozenset({"ledger_over", "reports_over", "reports_short"})
CHARGES = frozenset({"refused", "invoice_short"})
ADVICE = "What each cause means, and what can be done, is in docs/proof.md."


@check(
    "usage-proof",
    "Periods in which ledger, hourly sums, reports, Stripe's count and invoice did not agree when they were last "
    "proven, which is done each night.",
)
def usage_proof() -> Iterator[Finding]:
    """By the proofs as they are stored: those are made each night, and by hand on their pages."""
    differing = Proof.objects.filter(status=Proof.Status.DIFFERS).select_related("organization", "meter")
    for proof in differing.order_by("period_start", "pk"):
        said = " ".join(cause["sentence"] for cause in proof.differences)
        yield Finding(
            slug="usage-proof",
            severity=Severity.ERROR,
            subject=f"{proof.organization.ref}/{proof.meter_id}/{proof.period_start:%Y-%m-%dT%H:%M:%S}",
            sentence=f"{proof.meter} of {proof.organization} from {proof.period_start:%Y-%m-%d %H:%M} UTC, "
            f"as of {proof.checked_at:%Y-%m-%d %H:%M}: {said}",
            advice=ADVICE,
            fix=fix_of(proof),
            organization=proof.organization,
        )


def fix_of(proof: Proof) -> Fix | None:
    codes = {cause["code"] for cause in proof.differences}
    if codes & CHARGES:
        return Fix(
            "Repair it: what was used and is on no invoice goes on the customer's next one.",
            partial(mend, proof, corrects=True),
            is_safe=False,
        )
    if codes & COUNTS:
        return Fix("Repair the counts.", partial(mend, proof, corrects=False))
    return None


def mend(proof: Proof, *, corrects: bool) -> None:
    outcome = repair(proof.organization, corrects=corrects)
    now = next((each for each in outcome.proofs if each.pk == proof.pk), None)
    if now is None or now.status == Proof.Status.DIFFERS:
        raise CouldNotMend(" ".join(outcome.left) or "It still differs.")


@check("usage-corrections", "Corrections of usage that Stripe refused, or that no invoice takes up.")
def usage_corrections() -> Iterator[Finding]:
    Kept = Correction.State
    # Stripe has the item of such a one, and would make no invoice for it.
    left = Q(state=Kept.SENT, own_invoice="") & ~Q(last_error="")
    stuck = Correction.objects.filter(
        left | Q(state__in=[Kept.PENDING, Kept.UNKNOWN, Kept.FAILED]),
        created_at__lt=clock.now() - 20 * LEASE,
    )
    for correction in stuck.select_related("organization", "meter").order_by("created_at"):
        yield Finding(
            slug="usage-corrections",
            severity=Severity.WARNING,
            subject=str(correction.pk),
            sentence=f"“{correction.description}” of {correction.organization} is on no invoice: "
            f"{correction.last_error or 'it has not been sent.'}",
            advice="It is tried again by itself where Stripe gave no answer. One that Stripe refused is sent again "
            "from the list of corrections once what it complained of is mended. One that was taken off its invoice is "
            "charged again in the same way; where it was let go, accept the difference on the proof's page.",
            organization=correction.organization,
        )
