"""What is on offer: what the plan cards and the API's list of plans say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from accounts.models import Organization
from billing.buyers import Action, Buyer, know_buyer
from billing.models import Meter, Plan, PlanPrice, PlanQuota, PriceTier
from billing.templatetags.money import unit_money


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
    """The public plans in one interval and currency, with the others there are to choose from.

    `refusal` says why the subscription cannot be changed just now; empty where it can.
    """

    cards: tuple[PlanCard, ...]
    interval: str
    currency: str
    intervals: tuple[str, ...]
    currencies: tuple[str, ...]
    refusal: str = ""


def offered_plans() -> list[Plan]:
    """Return the public plans with all that their cards say, in order."""
    return list(Plan.objects.public().prefetch_related("quotas__meter", "prices__meter", "prices__tiers"))


def open_price_list(
    organization: Organization | None = None, *, interval: str = "", currency: str = ""
) -> PriceList:
    """Return what the organization, or a visitor where there is none, can have.

    An interval or currency that nothing is sold in gives way to one that something is.
    """
    plans, buyer = offered_plans(), know_buyer(organization)
    fees = [fee for plan in plans for fee in plan.fees() if fee.is_published]
    currencies = (buyer.currency,) if buyer.currency else tuple(sorted({fee.currency for fee in fees}))
    currency = choose(currency, currencies, otherwise="usd")
    sold = {fee.interval for fee in fees if fee.currency == currency}
    intervals = tuple(each for each in PlanPrice.Interval.values if each in sold)
    paid = buyer.subscription.interval if buyer.subscription else PlanPrice.Interval.MONTH
    interval = choose(interval, intervals, otherwise=paid)
    cards = tuple(make_card(plan, buyer, interval=interval, currency=currency) for plan in plans)
    return PriceList(cards, interval, currency, intervals, currencies, refusal=buyer.refusal)


def choose(wanted: str, among: Sequence[str], *, otherwise: str) -> str:
    return next((each for each in (wanted, otherwise, *among) if each in among), otherwise)


def make_card(plan: Plan, buyer: Buyer, *, interval: str, currency: str) -> PlanCard:
    price = find_fee(plan, interval=interval, currency=currency)
    return PlanCard(
        plan=plan,
        price=price,
        quotas=tuple(card_quotas(plan, currency=currency)),
        trial_days=buyer.trial_days(plan, price),
        action=buyer.action(plan, price),
    )


def find_fee(plan: Plan, *, interval: str, currency: str) -> PlanPrice | None:
    """Return the fee that is published at Stripe, by another interval where the plan is not sold by this one."""
    fees = [fee for fee in plan.fees() if fee.currency == currency and fee.is_published]
    return next((fee for fee in fees if fee.interval == interval), next(iter(fees), None))


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
    plans = (now, then)
    changes = [LimitChange("Calls a minute", *(describe_limit(plan.rate_per_minute) for plan in plans))]
    if any(plan.burst is not None for plan in plans):
        # Without a burst the whole minute's calls may come at once.
        bursts = (plan.rate_per_minute if plan.burst is None else plan.burst for plan in plans)
        changes.append(LimitChange("Calls at once", *map(describe_limit, bursts)))
    before, after = ({q.meter_id: q for q in plan.quotas.select_related("meter")} for plan in (now, then))
    for meter_id, quota in (before | after).items():
        texts = [describe_quota(quotas.get(meter_id)) for quotas in (before, after)]
        changes.append(LimitChange(f"{quota.meter.unit.capitalize()}s a month", *texts))
    if any(plan.api_key_limit is not None for plan in plans):
        changes.append(LimitChange("API keys", *(describe_limit(plan.api_key_limit) for plan in plans)))
    return changes


def describe_limit(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"


def describe_quota(quota: PlanQuota | None) -> str:
    if quota is None:
        return "none"
    if quota.included is None:
        return "unlimited"
    return f"{quota.included:,}, more is billed" if quota.is_billed else f"{quota.included:,}"
