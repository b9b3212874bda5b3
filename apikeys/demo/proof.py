"""The demo's last word: ledger = rollups = reports = Stripe = invoices, for every organization, meter and period."""

from dataclasses import dataclass
from datetime import UTC, datetime

from accounts.models import Organization
from usage import proof as usage_proof
from usage.models import Proof as PeriodProof

BEFORE_ALL = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Proof:
    """`units` in all; `differences` says, a line each, where counts are not the same or not complete."""

    units: int
    organizations: int
    periods: int
    differences: list[str]


def prove() -> Proof:
    """Count everything anew, in all five places, and keep it. Raises StripeUnavailable or StripeRejected."""
    users = Organization.objects.filter(rollups__isnull=False).distinct().order_by("pk")
    proofs = [each for user in users for each in usage_proof.prove(user, since=BEFORE_ALL)]
    return Proof(
        units=sum(each.ledger or 0 for each in proofs),
        organizations=len({each.organization_id for each in proofs}),
        periods=len(proofs),
        differences=[line_of(each) for each in proofs if is_amiss(each)],
    )


def is_amiss(proof: PeriodProof) -> bool:
    """Whether something differs, or is still on its way to Stripe: the demo is over, so nothing should be."""
    return proof.status == PeriodProof.Status.DIFFERS or bool(proof.on_its_way)


def line_of(proof: PeriodProof) -> str:
    said = " ".join(cause["sentence"] for cause in proof.causes)
    return f"{proof.organization}, {proof.meter}, from {proof.period_start:%Y-%m-%d %H:%M}: {said}"
