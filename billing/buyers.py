"""Who looks at the plans, and what they may do with each."""

from dataclasses import dataclass
from enum import StrEnum

from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.changes import Kind, Target, check_changeable, kind_of
from billing.errors import ChangeRefused
from billing.models import Plan, PlanPrice
from billing.standing import ScheduledChange, find_scheduled_change
from billing.subscriptions import PlanSubscription, find_live_subscription
from billing.trials import trial_days_for


class Action(StrEnum):
    """What somebody may do with a plan."""

    SIGN_UP = "sign_up"
    CHOOSE = "choose"
    CURRENT = "current"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    SWITCH = "switch"  # The same plan, paid by another interval.
    LEAVE = "leave"  # To the plan of last resort: by cancelling.
    NEXT = "next"  # It comes by itself.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Buyer:
    """A visitor, or an organization with its subscription, if it has one that ever began.

    `currency` is what it is billed in for good, None before its first invoice. `refusal` says why the
    subscription cannot be changed just now; empty where it can.
    """

    organization: Organization | None = None
    subscription: PlanSubscription | None = None
    scheduled: ScheduledChange | None = None
    currency: str | None = None
    refusal: str = ""

    def action(self, plan: Plan, price: PlanPrice | None) -> Action:
        """Return what is to be done with a plan at a price; the price is None where it is not on sale."""
        if self.organization is None:
            return Action.SIGN_UP if price or plan.is_default else Action.NOTHING
        if self.subscription is not None:
            return self._change(self.subscription, plan, price)
        if plan.is_default:
            return Action.CURRENT
        return Action.CHOOSE if price else Action.NOTHING

    def _change(self, subscription: PlanSubscription, plan: Plan, price: PlanPrice | None) -> Action:
        if plan.is_default:
            return Action.NOTHING if subscription.cancels_at else Action.LEAVE
        is_held = plan == subscription.plan
        if price is None or (is_held and price.interval == subscription.interval):
            return Action.CURRENT if is_held else Action.NOTHING
        if self.scheduled and (self.scheduled.plan, self.scheduled.interval) == (plan, price.interval):
            return Action.NEXT
        if self.refusal:
            return Action.CURRENT if is_held else Action.NOTHING
        if is_held:
            return Action.SWITCH
        kind = kind_of(subscription, Target(plan, price.interval, (price,)))
        # In a trial all are switches.
        is_more = plan.order >= subscription.plan.order if kind is Kind.SWITCH else kind is Kind.UPGRADE
        return Action.UPGRADE if is_more else Action.DOWNGRADE

    def trial_days(self, plan: Plan, price: PlanPrice | None) -> int | None:
        """Return how many days of the plan are free at first, None where none are, or not for this buyer."""
        action = self.action(plan, price)
        if self.organization and action == Action.CHOOSE:
            return trial_days_for(self.organization, plan)
        return plan.trial_days if price and action == Action.SIGN_UP else None


def know_buyer(organization: Organization | None) -> Buyer:
    """Return what is known of who looks, from the mirror; None is a visitor."""
    if organization is None:
        return Buyer()
    customers = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)
    currencies = customers.order_by("djstripe_created").values_list("stripe_data__currency", flat=True)
    subscription = find_live_subscription(organization)
    if subscription is None or not subscription.has_begun:
        # One that was never paid is given up for whatever is chosen next.
        return Buyer(organization, currency=currencies.first())
    return Buyer(
        organization,
        subscription,
        scheduled=find_scheduled_change(subscription),
        currency=subscription.currency,
        refusal=find_refusal(subscription),
    )


def find_refusal(subscription: PlanSubscription) -> str:
    """Return why the subscription cannot be changed just now, empty where it can."""
    try:
        check_changeable(subscription, now=clock.now())
    except ChangeRefused as error:
        return str(error)
    return ""
