"""What a customer is told of their proofs: the same figures as staff see, in plain words."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from accounts.models import Organization
from billing.models import Meter
from billing.templatetags.money import money
from usage.models import Correction, Proof

PAGE = 24
WHERE = {
    Correction.State.SENT: "on your next invoice after that",
    Correction.State.FREE: "without a charge",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One period of a meter as its customer sees it."""

    proof: Proof
    meter: Meter
    corrections: list[Correction]

    @property
    def message(self) -> str:
        """What the figures come to, in a sentence or two."""
        said = {
            Proof.Status.PROVEN: "All figures agree.",
            Proof.Status.RUNNING: "All figures agree; the period is still open.",
            Proof.Status.WAITING: "All figures agree, but for what is still on its way.",
            Proof.Status.ACCEPTED: "The figures do not agree. We looked into it, and nothing more comes of it for you.",
            Proof.Status.DIFFERS: "The figures do not agree. We know, and look into it; nothing you have to do.",
        }[Proof.Status(self.proof.status)]
        if self.is_ahead and self.proof.status != Proof.Status.DIFFERS:
            said = (
                "Our payment provider's clock is ahead of ours: it has closed an invoice already that by ours is to "
                "come. But for that all figures agree."
            )
        return " ".join([said, *self.notes])

    @property
    def is_ahead(self) -> bool:
        return any(cause["code"] == "ahead" for cause in self.proof.causes)

    @property
    def notes(self) -> list[str]:
        proof, notes = self.proof, []
        if proof.on_its_way:
            notes.append(f"{self.many(proof.on_its_way)} on the way to our payment provider.")
        if proof.to_invoice:
            notes.append(f"{self.many(proof.to_invoice)} for an invoice that is to come.")
        if proof.invoiced is None and not proof.to_invoice and proof.status == Proof.Status.PROVEN:
            notes.append("None of it is billed.")
        if not proof.ledger_is_kept:
            notes.append("The single calls are no longer kept: their figure is that of before.")
        return notes

    def many(self, units: int) -> str:
        verb = "is" if units == 1 else "are"
        return f"{units:,} {self.meter.unit if units == 1 else self.meter.unit + 's'} {verb}"

    def correction_said(self, correction: Correction) -> str:
        """Return what a correction is, for the customer: units, amount and where it is billed."""
        where = WHERE.get(Correction.State(correction.state), "in preparation")
        amount = f", {money(correction.amount, correction.currency)}" if correction.amount else ""
        return f"{correction.description}{amount}: {where}."

    @property
    def corrections_said(self) -> list[str]:
        return [self.correction_said(each) for each in self.corrections]


@dataclass(frozen=True, slots=True)
class ToldPage:
    """Some periods, the newest first. `next` is where the next page begins, empty at the end."""

    proofs: list[Told]
    next: str


def list_proofs(
    organization: Organization, *, limit: int = PAGE, after: str = "", meter: str = ""
) -> ToldPage:
    """Return the `limit` newest periods that come after the one `after`, of one meter or of all.

    Raises LookupError where that is none of the organization's.
    """
    rows = organization.proofs.select_related("meter").order_by("-period_start", "-pk")
    if meter:
        rows = rows.filter(meter__slug=meter)
    if after:
        last = organization.proofs.filter(pk=int(after)).first() if is_number(after) else None
        if last is None:
            raise LookupError(f"{organization} has no such period.")
        # Several meters' periods begin together.
        same = Q(period_start=last.period_start, pk__lt=last.pk)
        rows = rows.filter(Q(period_start__lt=last.period_start) | same)
    found = list(rows[: limit + 1])
    told = tell(organization, found[:limit])
    return ToldPage(told, next=str(found[limit - 1].pk) if len(found) > limit else "")


def is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def tell(organization: Organization, proofs: Iterable[Proof]) -> list[Told]:
    by_period: dict[tuple[str, object], list[Correction]] = defaultdict(list)
    for each in organization.corrections.exclude(state=Correction.State.FAILED).order_by("number"):
        by_period[each.meter_id, each.period_start].append(each)
    return [Told(proof, proof.meter, by_period[proof.meter_id, proof.period_start]) for proof in proofs]
