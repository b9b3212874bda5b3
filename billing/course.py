"""What Stripe does with a payment that goes on failing: when it tries again, and what it does in the end.

From how staff have entered their settings at Stripe, which its API does not tell, and from what it says of the
next try.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from accounts.models import Organization
from billing.models import BillingSettings
from billing.subscriptions import OWING, PlanSubscription, from_timestamp, owed_invoices

Outcome = BillingSettings.AfterRetries

LAST_TRY = {
    Outcome.CANCEL: "It was the last try: Stripe cancels the subscription.",
    Outcome.UNPAID: "It was the last try: Stripe marks the subscription unpaid.",
    Outcome.PAST_DUE: "It was the last try: the subscription stays past due until the invoice is paid. Each renewal "
    "adds an invoice, which is tried in the same way.",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A status that the subscription comes into at a moment, counted by the policy from `since`."""

    at: datetime
    status: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Course:
    """Stages and tries in their order. `ends_undated` is the outcome whose date only Stripe knows, if there is one."""

    stages: tuple[Stage, ...]
    tries: tuple[datetime, ...]
    remarks: dict[datetime, str] = field(default_factory=dict)
    ends_undated: str = ""

    @property
    def begins(self) -> datetime:
        return self.stages[0].at

    def stage_at(self, moment: datetime) -> Stage:
        return [stage for stage in self.stages if stage.at <= moment][-1]


@dataclass(frozen=True, slots=True)
class Tries:
    """When Stripe tries again. `last` is the one after which it gives up, None where that is not known or long past."""

    at: tuple[datetime, ...]
    last: datetime | None
    goes_on: bool = True


def course_of(
    subscription: PlanSubscription, organization: Organization, *, since: datetime, now: datetime
) -> Course:
    """Return the course of a payment that fails at `now`, or of the one that has been failing since `since`."""
    settings = BillingSettings.load()
    is_owing = subscription.status in OWING
    begins = since if is_owing else now
    owed = owed_invoices(subscription, organization) if is_owing else []
    tries = plan_tries(settings.retry_days, owed[0] if owed else None, begins=begins)
    past_due = Stage(begins, "past_due", begins)
    ends_at = subscription.cancels_at
    if subscription.status == "unpaid":
        # Since when it is, Stripe does not say: since the last try, where that is known.
        given_up = min(max([begins, *tries.at]), now)
        unpaid = Stage(given_up, "unpaid", begins)
        return Course((past_due, unpaid), tries.at, {given_up: LAST_TRY[Outcome.UNPAID]})
    if ends_at and ends_at > begins and (tries.last is None or ends_at <= tries.last):
        ended = Stage(ends_at, "canceled", ends_at)
        remark = {ends_at: "The subscription ends, as was arranged."}
        return Course((past_due, ended), tuple(at for at in tries.at if at < ends_at), remark)
    if tries.last is None:
        return Course((past_due,), tries.at, ends_undated=settings.after_retries if tries.goes_on else "")
    outcome = Outcome(settings.after_retries)
    final = Stage(tries.last, outcome, tries.last if outcome == Outcome.CANCEL else begins)
    return Course((past_due, final), tries.at, {tries.last: LAST_TRY[outcome]})


def plan_tries(days: Sequence[int], invoice: dict[str, Any] | None, *, begins: datetime) -> Tries:
    """Return the tries of a payment that first fails at `begins`. `invoice` is Stripe's, where it has failed already.

    By the days that staff have entered. What Stripe itself says of the next try goes before them, and moves
    those after it.
    """
    planned = [begins + timedelta(days=day) for day in days]
    if invoice is None:
        return Tries(tuple(planned), planned[-1] if planned else None)
    done = min(max(int(invoice.get("attempt_count") or 1) - 1, 0), len(planned))
    next_at = invoice.get("next_payment_attempt")
    if not next_at:
        return Tries(tuple(planned[:done]), None, goes_on=False)
    first = from_timestamp(next_at)
    if done == len(planned):
        return Tries((*planned, first), None)
    shifted = [at + (first - planned[done]) for at in planned[done:]]
    return Tries((*planned[:done], *shifted), shifted[-1])
