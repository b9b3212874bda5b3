"""Repair what other apps know of organizations, after a comparison with Stripe."""

import logging
from collections.abc import Iterable

from accounts.models import Organization
from billing.errors import BillingError
from billing.models import ReconcileRun
from billing.reconciliation import record
from billing.signals import repairing
from billing.stripe.copying import Outcome

logger = logging.getLogger(__name__)


def repair_each(run: ReconcileRun, organizations: Iterable[Organization]) -> None:
    """Have each repaired by whoever can, and keep in the run what came of it. Safe to repeat.

    One organization's failure does not keep the others from their turn. One with something left counts as one with
    problems, once, where the comparison had not counted it already.
    """
    run.refresh_from_db()
    counted = {each.get("organization") for each in run.findings if each["kind"] == "problem"}
    for organization in organizations:
        for receiver, answer in repairing.send_robust(sender=Organization, organization=organization):
            if isinstance(answer, Outcome):
                outcome = answer
            elif isinstance(answer, BillingError):
                outcome = Outcome(problems=[str(answer)])
            else:
                logger.error("%s could not repair %s: %r", receiver, organization.ref, answer)
                outcome = Outcome(problems=[f"It could not be repaired: {answer!r}"])
            is_new = bool(outcome.problems) and str(organization.pk) not in counted
            record(run, outcome, organization=organization, fails=is_new)
            if is_new:
                counted.add(str(organization.pk))
