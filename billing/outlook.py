"""What is coming, in sentences: for the customer's pages."""

from datetime import datetime

from django.utils import timezone

from accounts.models import Organization
from billing.access import ruling
from billing.models import Access, Entitlement, Plan, StatusPolicy
from billing.standing import Standing
from billing.templatetags.money import money


def day(moment: datetime) -> str:
    """Return a day, of the time zone that is in force, as pages write it: 3 December 2026."""
    moment = timezone.localtime(moment)
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


def describe_refused_trial(organization: Organization) -> str:
    """Return why the trial that the organization began last was refused; empty where it was not."""
    trial = organization.trials.first()
    return trial.refusal if trial else ""


def describe_fee(standing: Standing) -> str:
    """Return the flat fee as in “$29 a month”."""
    return f"{money(standing.fee_amount, standing.currency)} a {standing.interval}"


def describe_next_charge(standing: Standing) -> str:
    """Return when the next fee falls due and what it is, as in “3 December 2026: $29”; empty where none will."""
    if standing.cancels_at or standing.status not in {"trialing", "active", "past_due"}:
        return ""
    plan, fee = standing.plan, standing.fee_amount
    change = standing.scheduled_change
    if change and change.at <= standing.period_end:
        price = change.plan.find_base_price(interval=change.interval, currency=standing.currency)
        if price:
            plan, fee = change.plan, price.unit_amount
    text = f"{day(standing.period_end)}: {money(fee, standing.currency)}"
    return f"{text} and what was used beyond the quota" if bills_usage(plan) else text


def bills_usage(plan: Plan) -> bool:
    return any(quota.is_billed for quota in plan.quotas.all())


def describe_outlook(standing: Standing) -> list[str]:
    """Return what will change by itself, or waits for the customer: trial, cancellation, another plan."""
    lines = []
    if standing.cancels_at:
        lines.append(f"Ends on {day(standing.cancels_at)}.")
    elif standing.trial_ends_at:
        lines.append(f"Trial until {day(standing.trial_ends_at)}, then {describe_fee(standing)}.")
    if standing.scheduled_change:
        lines.append(f"{standing.scheduled_change.plan.name} from {day(standing.scheduled_change.at)}.")
    if standing.pending_upgrade:
        lines.append(f"The upgrade to {standing.pending_upgrade.plan.name} waits for its payment.")
    return lines
