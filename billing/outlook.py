"""What is coming, in sentences: for the customer's pages."""

from datetime import datetime

from billing.access import ruling
from billing.models import Access, Entitlement, Plan, StatusPolicy
from billing.standing import Standing
from billing.templatetags.money import money


def day(moment: datetime) -> str:
    """Return a day as pages write it: 3 December 2026."""
    return f"{moment.day} {moment:%B %Y}"


def describe_grace(entitlement: Entitlement) -> str:
    """Return what is left for how long while a payment is missing; empty where time alone takes nothing away."""
    if entitlement.grace_end is None or entitlement.status_since is None:
        return ""
    rules = ruling(
        entitlement.status, since=entitlement.status_since, policies=list(StatusPolicy.objects.all())
    )
    if rules.at(entitlement.grace_end).access == Access.NONE:
        later = "no calls at all"
    else:
        later = f"the limits of {Plan.objects.of_last_resort().name}"
    return f"{entitlement.plan.name} until {day(entitlement.grace_end)}, then {later}."


def describe_fee(standing: Standing) -> str:
    """Return the flat fee as in “$29 a month”."""
    return f"{money(standing.fee, standing.currency)} a {standing.interval}"


def describe_outlook(standing: Standing) -> list[str]:
    """Return what will change by itself, or waits for the customer: trial, cancellation, another plan."""
    lines = []
    if standing.cancels_at:
        lines.append(f"Ends on {day(standing.cancels_at)}.")
    elif standing.trial_ends_at:
        lines.append(f"Trial until {day(standing.trial_ends_at)}, then {describe_fee(standing)}.")
    if standing.scheduled:
        lines.append(f"{standing.scheduled.plan.name} from {day(standing.scheduled.at)}.")
    if standing.pending:
        lines.append(f"The upgrade to {standing.pending.plan.name} waits for its payment.")
    return lines
