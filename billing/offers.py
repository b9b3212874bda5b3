"""What is sold: a plan, by the month or the year, in a currency, at the prices that Stripe has for it."""

from dataclasses import dataclass
from typing import Any

from billing.errors import NotPublished
from billing.models import Plan, PlanPrice
from billing.subscriptions import PlanSubscription


@dataclass(frozen=True, slots=True)
class Offer:
    plan: Plan
    interval: str
    currency: str
    prices: tuple[PlanPrice, ...]

    @property
    def items(self) -> list[dict[str, Any]]:
        """What Stripe is asked for. A metered line takes no quantity: its usage is reported, not ordered."""
        return [
            {"price": price.stripe_price_id} | ({} if price.meter_id else {"quantity": 1})
            for price in self.prices
        ]

    def is_of(self, subscription: PlanSubscription) -> bool:
        """Whether the subscription is for this very plan at these very prices."""
        sold = sorted(str(item["price"]["id"]) for item in subscription.items)
        return sold == sorted(str(price.stripe_price_id) for price in self.prices)


def get_offer(plan: Plan, *, interval: str, currency: str) -> Offer:
    """Return what buying the plan so comes to. Raises NotPublished where it is not sold so, or not yet."""
    prices = plan.offered_prices(interval=interval, currency=currency)
    if not prices or not all(price.is_published for price in prices):
        how = "yearly" if interval == "year" else "monthly"
        raise NotPublished(
            f"{plan.name} cannot be bought {how} in {currency.upper()} right now: its price is not published at Stripe."
        )
    return Offer(plan, interval, currency, tuple(prices))
