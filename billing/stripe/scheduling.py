"""Changes at the period's end: Stripe's subscription schedules."""

from typing import Any

import stripe
from djstripe import models as djstripe

from billing.changes import Target, carried_item, resulting_items
from billing.errors import ChangeRefused
from billing.stripe.acting import sync_subscription
from billing.stripe.client import get_client
from billing.stripe.quotes import running_discounts
from billing.subscriptions import PlanSubscription


def schedule_change(subscription: PlanSubscription, target: Target) -> None:
    """Have the subscription changed at the end of the fee's period. Under the customer's lock.

    A schedule that is there is given the new course: one of an earlier change, or one that an earlier try
    began and could not finish.
    """
    schedules = get_client().v1.subscription_schedules
    known = subscription.data["schedule"]
    schedule = (
        schedules.retrieve(known) if known else schedules.create({"from_subscription": subscription.id})
    )
    if not leads_to(schedule, target, at=int(subscription.fee_period.end.timestamp())):
        phases: Any = [
            current_phase(subscription, schedule),
            next_phase(subscription, target),
        ]
        schedule = schedules.update(
            schedule.id,
            {
                "end_behavior": "release",
                "phases": phases,
                "proration_behavior": "none",
                "metadata": {"tollgate_plan": target.plan.slug},
            },
        )
    sync_subscription(subscription.id)
    djstripe.SubscriptionSchedule.sync_from_stripe_data(schedule)


def leads_to(schedule: stripe.SubscriptionSchedule, target: Target, *, at: int) -> bool:
    """Whether the last phase is the target's and begins then."""
    last = schedule["phases"][-1]
    return last["start_date"] == at and target.fee_id in [item["price"] for item in last["items"]]


def current_phase(subscription: PlanSubscription, schedule: stripe.SubscriptionSchedule) -> dict[str, Any]:
    """Return the phase that goes on until the fee falls due, with all that the subscription has now.

    From the subscription, not from the phase: what was changed about it since the schedule was made would be
    taken back otherwise.
    """
    end = int(subscription.fee_period.end.timestamp())
    running = schedule["current_phase"]
    if running is None or running["start_date"] >= end:
        raise ChangeRefused(
            "Your subscription is being renewed right now. Please try again in a few minutes.",
            code="renewing",
        )
    data = subscription.data
    phase = {
        "start_date": running["start_date"],
        "end_date": end,
        "items": [carried_item(item) for item in subscription.items],
        **lasting(subscription, data["discounts"]),
    }
    if data["metadata"]:
        phase["metadata"] = dict(data["metadata"])
    if subscription.trial_ends_at:
        phase["trial_end"] = data["trial_end"]
    return phase


def next_phase(subscription: PlanSubscription, target: Target) -> dict[str, Any]:
    """Return the phase with the target's prices: one interval, after which the schedule lets go."""
    end = subscription.fee_period.end
    discounts = [each["discount"] for each in running_discounts(subscription, at=end)]
    return {
        "items": resulting_items(subscription, target),
        "duration": {"interval": target.interval, "interval_count": 1},
        # Of the fee nothing is left then to be divided. But without proration Stripe would not bill what was
        # used at a metered price that changes.
        "proration_behavior": "create_prorations",
        "metadata": {"tollgate_plan": target.plan.slug},
        **lasting(subscription, discounts),
    }


def lasting(subscription: PlanSubscription, discounts: list[str]) -> dict[str, Any]:
    """Return what a phase would lose if it did not say so.

    Not the payment method: a card that the customer replaces meanwhile must not come back.
    """
    data = subscription.data
    kept: dict[str, Any] = {"automatic_tax": {"enabled": data["automatic_tax"]["enabled"]}}
    if discounts:
        kept["discounts"] = [{"discount": each} for each in discounts]
    if data["default_tax_rates"]:
        kept["default_tax_rates"] = [rate["id"] for rate in data["default_tax_rates"]]
    if data["description"]:
        kept["description"] = data["description"]
    return kept


def release_schedule(subscription: PlanSubscription) -> None:
    """Take the schedule off the subscription, which then goes on as it is. Under the customer's lock."""
    schedule = get_client().v1.subscription_schedules.release(subscription.data["schedule"])
    sync_subscription(subscription.id)
    djstripe.SubscriptionSchedule.sync_from_stripe_data(schedule)
