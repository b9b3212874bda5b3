"""Accept a difference that nothing can mend, such as an event of somebody else's on a plan that bills nothing."""

from typing import Any

from accounts import clock
from usage.models import Proof
from usage.proof.storing import prove_one


class CannotAccept(Exception):
    """There is nothing to accept, or not what was looked at. `str(error)` says why, for staff."""


def accept(proof: Proof, *, seen: dict[str, Any], reason: str, by: str) -> Proof:
    """Keep that the period's differences are accepted as they are, and by whom; return the proof.

    `seen` is the `snapshot` that was looked at: all is counted anew, and where it comes out otherwise nothing is
    accepted. Raises CannotAccept, StripeUnavailable or StripeRejected.
    """
    reason = reason.replace("\0", "").strip()  # PostgreSQL has no room for it.
    if not reason:
        raise CannotAccept("Say why it is accepted.")
    fresh = prove_one(proof)
    if fresh.snapshot != seen:
        raise CannotAccept("The figures have changed. Nothing was done: look again.")
    now = clock.now()
    if fresh.is_open(now):
        raise CannotAccept("The period is not over: its figures will change.")
    if fresh.on_its_way or fresh.to_invoice or fresh.correcting:
        raise CannotAccept("Something of the period is still on its way: its figures will change.")
    # Somebody else may prove it at this moment, and come to something else.
    differing = Proof.objects.filter(
        pk=fresh.pk, status=Proof.Status.DIFFERS, **{name: getattr(fresh, name) for name in Proof.FIGURES}
    )
    kept = differing.update(
        status=Proof.Status.ACCEPTED,
        accepted_figures=fresh.snapshot,
        accepted_reason=reason[:500],
        accepted_by=by[:254],
        accepted_at=now,
    )
    if not kept:
        raise CannotAccept("Nothing of it differs.")
    fresh.refresh_from_db()
    return fresh
