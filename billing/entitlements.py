"""From Stripe's state to what an organization may do: the only place where that is decided."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Entitlement, Plan, PlanPrice
from billing.periods import Period, anchored_month, calendar_month
from billing.signals import entitlement_changed

logger = logging.getLogger(__name__)

# Statuses that give the full plan. Every other one leaves the plan of last resort.
FULL_ACCESS = frozenset({"trialing", "active", "past_due"})
# Statuses of a subscription that Stripe may still charge for.
LIVE = frozenset({"trialing", "active", "past_due", "unpaid", "paused", "incomplete"})


@dataclass(frozen=True, slots=True)
class PlanSubscription:
    """A Stripe subscription in dj-stripe's mirror that buys one of our plans. `data` is Stripe's object."""

    plan: Plan
    data: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.data["status"])

    def period_at(self, now: datetime) -> Period:
        """Return the quota month around `now`.

        Stripe's own where it covers `now`; else counted on from the billing cycle anchor, so that a
        renewal whose webhook is late does not stop the customer at the stroke of the period's end.
        """
        item = self.data["items"]["data"][0]
        start, end = (
            datetime.fromtimestamp(item[f"current_period_{edge}"], UTC) for edge in ("start", "end")
        )
        interval = item["price"]["recurring"]
        if start <= now < end and (interval["interval"], interval["interval_count"]) == ("month", 1):
            return Period(start, end)
        anchor = datetime.fromtimestamp(self.data["billing_cycle_anchor"], UTC)
        # The anchor of a trial lies ahead, at its end.
        return anchored_month(anchor if anchor <= now else min(start, now), now)


def plan_subscriptions(organization: Organization) -> list[PlanSubscription]:
    """Return the organization's subscriptions to our plans, best first, as the mirror has them."""
    rows = djstripe.Subscription.objects.filter(customer__subscriber=organization)
    found = []
    for data in rows.values_list("stripe_data", flat=True):
        plan = find_plan(data)
        if plan:
            found.append(PlanSubscription(plan, data))
    return sorted(
        found, key=lambda s: (s.status in FULL_ACCESS, s.plan.order, s.data["created"]), reverse=True
    )


def find_plan(subscription: dict[str, Any]) -> Plan | None:
    """Return the plan that a subscription's flat price belongs to, or None when it sells something else."""
    prices = [item["price"] for item in subscription["items"]["data"]]
    by_id = PlanPrice.objects.filter(meter=None, stripe_price_id__in=[price["id"] for price in prices])
    price = by_id.select_related("plan").first()
    if price:
        return price.plan
    # An older price of the plan: publishing a new one moved the lookup key, and the subscriber stayed.
    products = [price["product"] for price in prices]
    return Plan.objects.filter(stripe_product_id__in=products).first()


def find_live_subscription(organization: Organization) -> PlanSubscription | None:
    return next((s for s in plan_subscriptions(organization) if s.status in LIVE), None)


def compute(organization: Organization, *, now: datetime) -> dict[str, Any]:
    """Return the entitlement's fields as they should be at `now`. Reads the mirror and the plans; writes nothing."""
    subscriptions = plan_subscriptions(organization)
    current = next((s for s in subscriptions if s.status in FULL_ACCESS), None)
    if current:
        plan, status, period = current.plan, current.status, current.period_at(now)
        subscription_id = current.data["id"]
    else:
        plan = Plan.objects.of_last_resort()
        status = subscriptions[0].status if subscriptions else "none"
        subscription_id = ""
        period = free_period(subscriptions, now=now)
    return {
        "plan": plan,
        "status": status,
        "subscription_id": subscription_id,
        "rate_per_minute": plan.rate_per_minute,
        "quotas": {
            quota.meter.slug: {"included": quota.included, "overage": quota.overage}
            for quota in plan.quotas.select_related("meter")
        },
        "period_start": period.start,
        "period_end": period.end,
    }


def free_period(subscriptions: list[PlanSubscription], *, now: datetime) -> Period:
    """Return the calendar month, begun anew where a subscription ended in it.

    What was used on a paid plan would otherwise lock the customer out of the free one until next month.
    """
    month = calendar_month(now)
    ends = [datetime.fromtimestamp(s.data["ended_at"], UTC) for s in subscriptions if s.data.get("ended_at")]
    latest = max((end for end in ends if end in month and end <= now), default=month.start)
    return Period(latest, month.end)


def open_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Create the entitlement of a new organization."""
    return Entitlement.objects.create(
        organization=organization, **compute(organization, now=now or clock.now())
    )


def refresh_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Bring the entitlement in line with the mirror, under its row lock, and tell who cached it.

    Safe to call at any time and any number of times: it changes nothing where nothing changed.
    """
    with transaction.atomic():
        entitlement = lock_entitlement(organization)
        fields = compute(organization, now=now or clock.now())
        changed = [name for name, value in fields.items() if getattr(entitlement, name) != value]
        if changed:
            for name in changed:
                setattr(entitlement, name, fields[name])
            entitlement.version += 1
            entitlement.changed_at = clock.now()
            entitlement.save()
            logger.info(
                "Entitlement of %s is now %s (%s), version %d",
                organization.ref,
                entitlement.plan.slug,
                entitlement.status,
                entitlement.version,
            )
            entitlement_changed.send(sender=Entitlement, entitlement=entitlement)
    return entitlement


def current_entitlement(organization: Organization, *, now: datetime | None = None) -> Entitlement:
    """Return the entitlement, moved on first where its period has ended and nothing has come since."""
    now = now or clock.now()
    entitlement = Entitlement.objects.select_related("plan").get(organization=organization)
    return refresh_entitlement(organization, now=now) if now >= entitlement.period_end else entitlement


def lock_entitlement(organization: Organization) -> Entitlement:
    """Lock and return the entitlement row: whoever changes or caches what the gate knows holds it."""
    return (
        Entitlement.objects.select_for_update(of=("self",), no_key=True)
        .select_related("plan", "organization")
        .get(organization=organization)
    )
