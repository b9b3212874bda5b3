"""What a larger plan would allow where a limit has refused."""

from typing import NamedTuple

from django.db.models import OuterRef, Subquery

from billing.models import Plan, PlanQuota


class NextPlan(NamedTuple):
    """`limit` is calls a minute, calls at once or units a month, by the policy; None: no limit."""

    slug: str
    name: str
    limit: int | None


def find_next_plan(plan: Plan, *, policy: str, limit: int, meter: str) -> NextPlan | None:
    """Return the cheapest public plan further on that would allow more than `limit`, None where there is none.

    A plan that bills what lies beyond its quota has none that ends; its `limit` is what it includes. A key's own
    cap and a customer's own spend cap are no plan's.
    """
    if policy not in {"minute", "burst", "period"}:
        return None
    plans = Plan.objects.public().filter(order__gt=plan.order)
    if policy == "period":
        quotas = PlanQuota.objects.filter(plan=OuterRef("pk"), meter__slug=meter)
        plans = plans.filter(quotas__meter__slug=meter).annotate(
            included=Subquery(quotas.values("included")[:1]), beyond=Subquery(quotas.values("overage")[:1])
        )
    for each in plans:
        allowed, ends = allowance(each, policy)
        if not ends or allowed is None or allowed > limit:
            return NextPlan(each.slug, each.name, allowed)
    return None


def allowance(plan: Plan, policy: str) -> tuple[int | None, bool]:
    """Return what a plan allows by a policy, and whether that is the end."""
    if policy == "minute":
        return plan.rate_per_minute, True
    if policy == "burst":
        return (plan.rate_per_minute if plan.burst is None else plan.burst), True
    return plan.included, plan.beyond == PlanQuota.Overage.BLOCK  # type: ignore[attr-defined]  # Annotated above.
