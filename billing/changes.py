"""Changes of plan, decided from a subscription as it is: what kind each is, and whether it may be made."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from billing.errors import ChangeRefused, NotPublished
from billing.models import Meter, Plan, PlanPrice
from billing.subscriptions import OWING, PlanSubscription

MONTHS = {"month": 1, "year": 12}


class Kind(StrEnum):
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    SWITCH = "switch_in_trial"


@dataclass(frozen=True, slots=True)
class Target:
    """What to change to. `prices` are the fee and the metered ones; none for the plan of last resort.

    That one is not bought: it is what remains when the subscription ends.
    """

    plan: Plan
    interval: str
    prices: tuple[PlanPrice, ...]

    @property
    def is_leaving(self) -> bool:
        return not self.prices

    @property
    def fee(self) -> PlanPrice:
        return self.prices[0]

    @property
    def fee_id(self) -> str:
        """The fee's price at Stripe."""
        return str(self.fee.stripe_price_id)


def find_target(plan: Plan, *, interval: str, currency: str) -> Target:
    """Return what a subscription in `currency` would be made of. Raises NotPublished."""
    if plan.is_default:
        return Target(plan, interval, ())
    prices = plan.offered_prices(interval=interval, currency=currency)
    if not prices or not all(price.is_published for price in prices):
        raise NotPublished(
            f"{plan.name} cannot be bought right now: it has no published price by the {interval} "
            f"in {currency.upper()}."
        )
    return Target(plan, interval, tuple(prices))


def kind_of(subscription: PlanSubscription, target: Target) -> Kind:
    """Return how a change is made: at once and paid for, at the period's end, or at once in a trial."""
    if target.is_leaving:
        return Kind.DOWNGRADE
    if subscription.status == "trialing":
        return Kind.SWITCH
    return Kind.UPGRADE if _is_more(subscription, target) else Kind.DOWNGRADE


def _is_more(subscription: PlanSubscription, target: Target) -> bool:
    held = subscription.plan
    if held.pk == target.plan.pk:
        return MONTHS[target.interval] > MONTHS[subscription.interval]
    if held.order != target.plan.order:
        return target.plan.order > held.order
    # Staff gave both the same place: the dearer one is the upgrade.
    paid = Fraction(subscription.fee_amount, MONTHS[subscription.interval])
    return Fraction(target.fee.unit_amount, MONTHS[target.interval]) >= paid


def is_held(subscription: PlanSubscription, target: Target) -> bool:
    """Whether the subscription is for this plan and interval already, at whatever price."""
    return (subscription.plan.pk, subscription.interval) == (target.plan.pk, target.interval)


def check_changeable(subscription: PlanSubscription) -> None:
    """Raise ChangeRefused where the subscription's state lets no change be made."""
    if subscription.status == "incomplete":
        raise ChangeRefused(
            "Your first payment is not complete yet. Complete it, or cancel and choose anew.",
            code="incomplete",
        )
    if subscription.status in OWING:
        raise ChangeRefused("Your last payment is overdue. Pay it first.", code="payment_overdue")
    if subscription.status == "paused":
        raise ChangeRefused("Your subscription is paused. Resume it first.", code="paused")
    if subscription.cancels_at is not None:
        raise ChangeRefused("Your subscription is set to end. Resume it first.", code="set_to_end")


def nothing_changes(target: Target) -> ChangeRefused:
    return ChangeRefused(
        f"You are on {target.plan.name}, paid by the {target.interval}, already.", code="nothing_changes"
    )


def item_changes(subscription: PlanSubscription, target: Target) -> list[dict[str, Any]]:
    """Return the `items` that turn the subscription's into those of `target`, the fee first, as Stripe takes them.

    A metered item goes over to the new plan's price of the same meter. What is not of our catalogue stays.
    """
    fee = subscription.fee_item
    changes: list[dict[str, Any]] = [
        {"id": fee["id"], "price": target.fee_id, "quantity": fee.get("quantity", 1)}
    ]
    wanted = metered_prices(target)
    for item in metered_items(subscription):
        price = wanted.pop(item["price"]["recurring"]["meter"], None)
        if price is None:
            changes.append({"id": item["id"], "deleted": True})
        elif price != item["price"]["id"]:
            changes.append({"id": item["id"], "price": price})
    return changes + [{"price": price} for price in wanted.values()]


def resulting_items(subscription: PlanSubscription, target: Target) -> list[dict[str, Any]]:
    """Return the items that the subscription would then have, as a schedule's phase takes them."""
    fee = subscription.fee_item
    kept = [item["id"] for item in (fee, *metered_items(subscription))]
    items = [carried_item(fee) | {"price": target.fee_id}]
    items += [{"price": price} for price in metered_prices(target).values()]
    return items + [carried_item(item) for item in subscription.items if item["id"] not in kept]


def carried_item(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item of a subscription with all that is its own, as a schedule's phase takes it."""
    carried: dict[str, Any] = {"price": item["price"]["id"]}
    if "quantity" in item:
        carried["quantity"] = item["quantity"]
    if item.get("discounts"):
        carried["discounts"] = [{"discount": each} for each in item["discounts"]]
    if item.get("tax_rates"):
        carried["tax_rates"] = [rate["id"] for rate in item["tax_rates"]]
    if item.get("metadata"):
        carried["metadata"] = dict(item["metadata"])
    return carried


def metered_prices(target: Target) -> dict[str, str]:
    """Return the ids at Stripe of the metered prices, by their meters' ids."""
    return {price.meter.stripe_meter_id: str(price.stripe_price_id) for price in target.prices if price.meter}


def metered_items(subscription: PlanSubscription) -> list[dict[str, Any]]:
    """Return the items that count one of our meters."""
    ours = set(Meter.objects.exclude(stripe_meter_id="").values_list("stripe_meter_id", flat=True))
    return [item for item in subscription.items if item["price"]["recurring"].get("meter") in ours]
