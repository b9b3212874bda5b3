"""What is on offer, and to whom: what the plan cards and the API's list of plans say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from djstripe import models as djstripe

from accounts.models import Organization
from billing.changes import Kind, Target, kind_of
from billing.models import Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.subscriptions import PlanSubscription, find_live_subscription
from billing.templatetags.money import unit_money
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
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class CardQuota:
    """How much of a meter a plan includes; `included` is units a month, None for unlimited."""

    meter: Meter
    included: int | None
    is_billed: bool
    tiers: tuple[PriceTier, ...]
    currency: str

    @property
    def overage(self) -> str:
        """What a unit beyond the included ones costs, as in “then $0.002 a call”; empty where none is sold."""
        return (
            describe_overage(self.tiers, unit=self.meter.unit, currency=self.currency)
            if self.is_billed
            else ""
        )


@dataclass(frozen=True, slots=True)
class PlanCard:
    """A plan as one visitor sees it. `price` is None where it cannot be bought."""

    plan: Plan
    price: PlanPrice | None
    quotas: tuple[CardQuota, ...]
    trial_days: int | None
    action: Action


@dataclass(frozen=True, slots=True)
class PriceList:
    """The public plans in one interval and currency, with the others there are to choose from."""

    cards: tuple[PlanCard, ...]
    interval: str
    currency: str
    intervals: tuple[str, ...]
    currencies: tuple[str, ...]


def offered_plans() -> list[Plan]:
    """Return the public plans with all that their cards say, in order."""
    return list(Plan.objects.public().prefetch_related("quotas__meter", "prices__meter", "prices__tiers"))


def open_price_list(
    organization: Organization | None = None, *, interval: str = "", currency: str = ""
) -> PriceList:
    """Return what the organization, or a visitor where there is none, can have.

    An interval or currency that nothing is sold in gives way to one that something is. Stripe bills a customer
    in one currency for good, that of the first invoice.
    """
    plans = offered_plans()
    subscription = find_live_subscription(organization) if organization else None
    if subscription and not subscription.has_begun:
        subscription = None  # Not paid for, and given up for whatever is chosen next.
    if subscription:
        interval = interval or subscription.interval
    fees = [fee for plan in plans for fee in plan.fees() if fee.is_published]
    fixed = find_currency(organization) if organization else None
    currencies = (fixed,) if fixed else tuple(sorted({fee.currency for fee in fees}))
    currency = choose(currency, currencies, otherwise="usd")
    sold = {fee.interval for fee in fees if fee.currency == currency}
    intervals = tuple(each for each in PlanPrice.Interval.values if each in sold)
    interval = choose(interval, intervals, otherwise=PlanPrice.Interval.MONTH)
    cards = tuple(
        make_card(plan, organization, subscription, interval=interval, currency=currency) for plan in plans
    )
    return PriceList(cards, interval, currency, intervals, currencies)


def find_currency(organization: Organization) -> str | None:
    """Return the currency that the organization is billed in, None before its first invoice."""
    rows = djstripe.Customer.objects.filter(subscriber=organization, date_purged=None)
    known = rows.order_by("djstripe_created").values_list("stripe_data__currency", flat=True).first()
    subscription = find_live_subscription(organization)
    return subscription.currency if subscription else known


def choose(wanted: str, among: Sequence[str], *, otherwise: str) -> str:
    return next((each for each in (wanted, otherwise, *among) if each in among), otherwise)


def make_card(
    plan: Plan,
    organization: Organization | None,
    subscription: PlanSubscription | None,
    *,
    interval: str,
    currency: str,
) -> PlanCard:
    price = find_fee(plan, interval=interval, currency=currency)
    action = find_action(plan, price, organization, subscription)
    trial_days = None
    if price and action == Action.SIGN_UP:
        trial_days = plan.trial_days
    elif organization and action == Action.CHOOSE:
        trial_days = trial_days_for(organization, plan)
    return PlanCard(plan, price, tuple(card_quotas(plan, currency=currency)), trial_days, action)


def find_fee(plan: Plan, *, interval: str, currency: str) -> PlanPrice | None:
    """Return the fee that is published at Stripe, by another interval where the plan is not sold by this one."""
    fees = [fee for fee in plan.fees() if fee.currency == currency and fee.is_published]
    return next((fee for fee in fees if fee.interval == interval), next(iter(fees), None))


def find_action(
    plan: Plan,
    price: PlanPrice | None,
    organization: Organization | None,
    subscription: PlanSubscription | None,
) -> Action:
    if organization is None:
        return Action.SIGN_UP if price or plan.is_default else Action.NOTHING
    if subscription is None:
        if plan.is_default:
            return Action.CURRENT
        return Action.CHOOSE if price else Action.NOTHING
    return find_change(plan, price, subscription)


def find_change(plan: Plan, price: PlanPrice | None, subscription: PlanSubscription) -> Action:
    """Return what a subscriber may do with a plan."""
    if plan == subscription.plan:
        is_same = price is None or price.interval == subscription.interval
        return Action.CURRENT if is_same else Action.SWITCH
    if plan.is_default:
        return Action.NOTHING if subscription.cancels_at else Action.LEAVE
    if price is None:
        return Action.NOTHING
    kind = kind_of(subscription, Target(plan, price.interval, (price,)))
    is_more = plan.order >= subscription.plan.order if kind is Kind.SWITCH else kind is Kind.UPGRADE
    return Action.UPGRADE if is_more else Action.DOWNGRADE


def card_quotas(plan: Plan, *, currency: str) -> Iterable[CardQuota]:
    for quota in plan.quotas.all():
        prices = [p for p in plan.prices.all() if p.meter_id == quota.meter_id and p.currency == currency]
        tiers = tuple(tier for price in prices if price.is_published for tier in price.tiers.all())
        yield CardQuota(quota.meter, quota.included, quota.is_billed, tiers, currency)


def describe_overage(tiers: Sequence[PriceTier], *, unit: str, currency: str) -> str:
    """Return what units beyond the included ones cost, in a few words: the first price, and the last with its start."""
    if not any(tier.unit_amount for tier in tiers):
        return "then at no charge"
    first, last = (unit_money(tier.unit_amount, currency) for tier in (tiers[0], tiers[-1]))
    if len(tiers) == 1:
        return f"then {first} a {unit}"
    at_first = " at first" if len(tiers) > 2 else ""
    return f"then {first} a {unit}{at_first}, {last} beyond {tiers[-2].up_to:,}"


class LimitChange(NamedTuple):
    """One limit before and after a change of plan, in words."""

    name: str
    now: str
    then: str


def compare_limits(now: Plan, then: Plan) -> list[LimitChange]:
    """Return every limit that one of two plans has, also those that stay."""
    rates = [
        "no limit" if plan.rate_per_minute is None else f"{plan.rate_per_minute:,}" for plan in (now, then)
    ]
    changes = [LimitChange("Calls a minute", *rates)]
    before, after = ({q.meter_id: q for q in plan.quotas.select_related("meter")} for plan in (now, then))
    for meter_id, quota in (before | after).items():
        texts = [describe_quota(quotas.get(meter_id)) for quotas in (before, after)]
        changes.append(LimitChange(f"{quota.meter.unit.capitalize()}s a month", *texts))
    return changes


def describe_quota(quota: PlanQuota | None) -> str:
    if quota is None:
        return "none"
    if quota.included is None:
        return "unlimited"
    return f"{quota.included:,}, more is billed" if quota.is_billed else f"{quota.included:,}"
