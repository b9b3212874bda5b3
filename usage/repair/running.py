"""Repair one organization's usage, step by step, and say what was done and what is left."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from django.db import connection

from accounts.models import Organization
from billing.errors import BillingError, UsageNotReported
from usage import corrections
from usage.corrections import CannotCorrect
from usage.flush import flush_usage
from usage.models import Correction, Proof
from usage.proof import prove
from usage.proof.gathering import key_of
from usage.proof.hours import ledger_gaps, report_gaps, twins
from usage.repair.hours import rebuild_hours
from usage.repair.outbox import put_back, take_off
from usage.settling import settle_unanswered

logger = logging.getLogger(__name__)

# Of one period: more than that one after the other means that they do not help.
MOST_CORRECTIONS = 12
CORRECTABLE = ("refused", "invoice_short", "invoice_over", "stripe_over", "reports_over")
AT_REST = frozenset({Proof.Status.PROVEN, Proof.Status.RUNNING, Proof.Status.ACCEPTED})
# Of locks by number, those for repairs; the other half is the organization's.
LOCK = 0x7011_4E9A


@dataclass(slots=True)
class Repair:
    """What a repair did, and what it could not mend, a sentence each; and the proofs as they are now."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    # The moments at which Stripe cancelled what was dated then: what is missing there is no matter of a late count.
    cancelled: set[datetime] = field(default_factory=set)


def repair(organization: Organization, *, corrects: bool = True) -> Repair:
    """Mend what can be mended of the organization's usage without billing anything twice.

    Where it `corrects`, what was used and is on no invoice is put on the next one: that charges the customer.
    May be repeated: then it does nothing. Where another process repairs the same organization it leaves that to it.
    What needs a person is named and left: credits, and charges of a period that was accepted, first of all. Raises
    StripeUnavailable where nothing could be proven.
    """
    outcome = Repair()
    with alone(organization) as is_alone:
        if not is_alone:
            outcome.left.append("Another process is repairing this organization's usage at this moment.")
            return outcome
        outcome.proofs = prove(organization)
        if all(each.status in AT_REST and not each.unknown for each in outcome.proofs):
            return outcome
        mend_counts(organization, outcome)
        send_what_waits(organization, outcome)
        if corrects:
            correct(organization, outcome)
    outcome.proofs = prove(organization, exact_at=outcome.cancelled)
    for proof in outcome.proofs:
        outcome.left += [f"{named(proof)}: {cause['sentence']}" for cause in proof.differences]
    return outcome


@contextmanager
def alone(organization: Organization) -> Iterator[bool]:
    """Give whether nobody else repairs this organization. Calls to Stripe are made inside: so no transaction."""
    numbers = [LOCK, int.from_bytes(organization.pk.bytes[-4:], signed=True)]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", numbers)
        got = bool(cursor.fetchone()[0])
        try:
            yield got
        finally:
            if got:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", numbers)


def named(proof: Proof) -> str:
    return f"{proof.meter.name} from {proof.period_start:%Y-%m-%d}"


def mend_counts(organization: Organization, outcome: Repair) -> None:
    """Bring hourly sums in line with the ledger, then reports in line with the hourly sums."""
    for proof in outcome.proofs:
        if proof.differs_by("ledger_over"):
            rebuild(proof, outcome)
    for proof in prove(organization):
        # Which of the two is right where they differ nobody can tell here: nothing is taken off or made by it.
        if proof.differs_by("ledger_over", "ledger_short"):
            continue
        key = key_of(proof)
        if proof.differs_by("reports_over"):
            for gap in report_gaps(key):
                if gap.units > 0:
                    attempt(outcome, proof, partial(take_off, key, gap, outcome.cancelled))
        if proof.differs_by("reports_short"):
            for gap in report_gaps(key):
                if gap.units < 0:
                    attempt(outcome, proof, partial(put_back, key, gap, proof))


def attempt(outcome: Repair, proof: Proof, do: Callable[[], str | None]) -> None:
    """Do a step; one that fails holds up nothing else."""
    try:
        done = do()
    except BillingError as error:
        outcome.left.append(f"{named(proof)}: {error}")
    else:
        if done:
            outcome.done.append(f"{named(proof)}: {done}")


def rebuild(proof: Proof, outcome: Repair) -> None:
    """Make the hours anew in which the ledger has more: what it has less of may be missing there."""
    key = key_of(proof)
    gaps = [gap for gap in ledger_gaps(key) if gap.units > 0]
    # An event that is there twice would be billed twice: the row has to go, and that a person decides.
    hours = [gap.hour for gap in gaps if not twins(key, gap.hour)]
    changed = rebuild_hours(key.organization_id, key.meter, hours) if hours else 0
    if changed:
        first = f"{hours[0]:%Y-%m-%d %H}h"
        where = first if len(hours) == 1 else f"{len(hours)} hours from {first} on"
        unit = "unit" if abs(changed) == 1 else "units"
        outcome.done.append(
            f"{named(proof)}: Made the sums of {where} anew from the ledger: {changed:+,} {unit}."
        )


def send_what_waits(organization: Organization, outcome: Repair) -> None:
    """Report what no report holds, send what waits, and settle by Stripe's count what got no answer for long."""
    try:
        sent = flush_usage(organization)
    except UsageNotReported as error:
        outcome.left.append(str(error))
    else:
        if sent:
            outcome.done.append(f"Sent {reports(sent)} that {'was' if sent == 1 else 'were'} waiting.")
    settle_unknown(organization, outcome)


def settle_unknown(organization: Organization, outcome: Repair) -> None:
    """Settle what got no answer for long, minute by minute as each hour's task does; what is lost is sent again."""
    try:
        settled = settle_unanswered(organization)
    except BillingError as error:
        outcome.left.append(str(error))
        return
    if arrived := settled["arrived"]:
        outcome.done.append(
            f"{reports(arrived)} got no answer from Stripe: by its count {they(arrived)} arrived."
        )
    if lost := settled["lost"]:
        outcome.done.append(
            f"{reports(lost)} got no answer from Stripe: by its count {they(lost)} never arrived."
        )
        try:
            flush_usage(organization)
        except UsageNotReported as error:
            outcome.left.append(str(error))


def reports(count: int) -> str:
    return "1 report" if count == 1 else f"{count} reports"


def they(count: int) -> str:
    return "it" if count == 1 else "they"


def correct(organization: Organization, outcome: Repair) -> None:
    """Put on the next invoice what came too late for its own or was refused; name what takes somebody's yes."""
    corrections.send_due(organization=organization)
    for proof in prove(organization):
        done = 0
        while done < MOST_CORRECTIONS and (correction := correct_once(proof, outcome)):
            done += 1
            if correction.state in {Correction.State.PENDING, Correction.State.UNKNOWN}:
                break


def correct_once(proof: Proof, outcome: Repair) -> Correction | None:
    """Make and send the period's next correction; None where there is none to make without a person."""
    if not proof.differs_by(*CORRECTABLE):
        return None
    try:
        proposal = corrections.propose(proof)
        if proposal.needs_yes:
            outcome.left.append(f"{named(proof)}: {proposal.sentence} Somebody has to say yes to it.")
            return None
        correction = corrections.make(proposal)
    except CannotCorrect:
        return None  # Why it differs is said by its causes.
    except BillingError as error:
        outcome.left.append(f"{named(proof)}: {error}")
        return None
    if correction.state == Correction.State.PENDING:
        correction = corrections.send(correction.pk)
    outcome.done.append(f"{named(proof)}: {proposal.sentence}")
    return correction
