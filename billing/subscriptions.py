"""An organization's subscriptions to our plans, read from dj-stripe's mirror. Nothing here asks Stripe."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from djstripe import models as djstripe

from accounts.models import Organization
from billing.models import Entitlement, Meter, Plan, PlanPrice, PublishedPrice
from billing.periods import Period, anchored_month

# Statuses of a subscription that Stripe may still charge for.
LIVE = frozenset({"trialing", "active", "past_due", "unpaid", "paused", "incomplete"})
OWING = frozenset({"past_due", "unpaid"})
# Stripe may end a subscription a while after it was to end, and its webhook comes after that.
END_HEARD_WITHIN = timedelta(hours=1)


def from_timestamp(value: int) -> datetime:
    return datetime.fromtimestamp(value, UTC)


@dataclass(frozen=True, slots=True)
class PlanSubscription:
    """A Stripe subscription that buys one of our plans. `data` is Stripe's object."""

    plan: Plan
    data: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def has_begun(self) -> bool:
        """Whether it ever gave anything: its first invoice was paid, or it had a trial."""
        return self.status not in {"incomplete", "incomplete_expired"}

    @property
    def begins(self) -> datetime:
        """Since when it counts usage: also before its first payment, which may never come."""
        return from_timestamp(self.data.get("start_date") or self.data["created"])

    def is_on(self, moment: datetime) -> bool:
        """Whether the moment lies between its start and its end."""
        ended = self.data.get("ended_at")
        return self.begins <= moment and (not ended or moment < from_timestamp(ended))

    @property
    def items(self) -> list[dict[str, Any]]:
        """Stripe's items as they are now; rows of removed ones stay in the mirror."""
        return list(self.data["items"]["data"])

    @property
    def fee_item(self) -> dict[str, Any]:
        """The item of the flat fee, else the first one."""
        licensed = (item for item in self.items if item["price"]["recurring"]["usage_type"] == "licensed")
        return next(licensed, self.items[0])

    @property
    def interval(self) -> str:
        """How often the fee is charged: month or year."""
        return str(self.fee_item["price"]["recurring"]["interval"])

    @property
    def fee_amount(self) -> int:
        """What the fee is each interval, in the currency's minor unit, before discounts and taxes."""
        return int(self.fee_item["price"]["unit_amount"] or 0) * int(self.fee_item.get("quantity", 1))

    @property
    def currency(self) -> str:
        return str(self.data["currency"])

    @property
    def fee_period(self) -> Period:
        """What the last fee was charged for: its end is when the next one falls due."""
        item = self.fee_item
        return Period(
            from_timestamp(item["current_period_start"]), from_timestamp(item["current_period_end"])
        )

    @property
    def cancels_at(self) -> datetime | None:
        """When it ends by itself. In flexible billing mode the portal sets `cancel_at` alone: so that counts."""
        at = self.data.get("cancel_at")
        if at is None and self.data.get("cancel_at_period_end"):
            return self.fee_period.end
        return from_timestamp(at) if at is not None else None

    @property
    def lapses_at(self) -> datetime | None:
        """From when on it counts as ended, as it was to end by itself, though its end was not heard of."""
        ends_at = self.cancels_at if self.is_live else None
        return ends_at + END_HEARD_WITHIN if ends_at else None

    @property
    def trial_ends_at(self) -> datetime | None:
        at = self.data.get("trial_end")
        return from_timestamp(at) if self.status == "trialing" and at else None

    def period_at(self, now: datetime) -> Period:
        """Return the quota month around `now`.

        Stripe's own where it covers `now`; else counted on from the billing cycle anchor, so that a
        renewal whose webhook is late does not stop the customer at the stroke of the period's end.
        A yearly fee has monthly metered items beside it, whose months these are.
        """
        monthly = [
            item
            for item in self.items
            if (item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"])
            == ("month", 1)
        ]
        # Of several the one that has run longest: an item added in mid-period shows its own start.
        for item in sorted(monthly, key=lambda item: item["current_period_start"]):
            start, end = (from_timestamp(item[f"current_period_{edge}"]) for edge in ("start", "end"))
            if start <= now < end:
                return Period(start, end)
        anchor = from_timestamp(self.data["billing_cycle_anchor"])
        start = self.fee_period.start
        # The anchor of a trial lies ahead, at its end.
        return anchored_month(anchor if anchor <= now else min(start, now), now)


class PlanFinder:
    """Knows which plan a Stripe subscription is for, by the catalogue as it is when this is made."""

    def __init__(self) -> None:
        plans = {plan.pk: plan for plan in Plan.objects.all()}
        published = list(PublishedPrice.objects.filter(meter=None))
        self._by_price = {price.stripe_price_id: plans[price.plan_id] for price in published}
        for price in PlanPrice.objects.filter(meter=None).exclude(stripe_price=None):
            self._by_price[str(price.stripe_price_id)] = plans[price.plan_id]
        products: defaultdict[str, set[Plan]] = defaultdict(set)
        for plan in plans.values():
            products[plan.product_id].add(plan)
            products[plan.stripe_product_id or plan.product_id].add(plan)
        for each in published:
            products[each.product_id].add(plans[each.plan_id])
        # A product that several plans share, as an adopted one may be, does not tell which of them it is.
        self._by_product = {product: next(iter(its)) for product, its in products.items() if len(its) == 1}

    def find(self, subscription: dict[str, Any]) -> Plan | None:
        """Return the plan that a subscription's flat price belongs to, or None when it sells something else."""
        prices = [item["price"] for item in subscription["items"]["data"]]
        by_price = (self._by_price.get(price["id"]) for price in prices)
        # A price from before Tollgate, of a product that was adopted since.
        by_product = (self._by_product.get(product_of(price)) for price in prices)
        return next((plan for plan in [*by_price, *by_product] if plan), None)


def product_of(price: dict[str, Any]) -> str:
    """Return the id of a price's product, which the mirror keeps whole where it was fetched so."""
    product = price["product"]
    return str(product if isinstance(product, str) else product["id"])


def plan_subscriptions(organization: Organization) -> list[PlanSubscription]:
    """Return the organization's subscriptions to our plans as the mirror has them, the newest first."""
    return plan_subscriptions_of([organization.pk]).get(organization.pk, [])


def subscription_giving(entitlement: Entitlement) -> PlanSubscription | None:
    """Return the subscription that gives an entitlement, None where none does, without a look at the catalogue."""
    plan = entitlement.bought_plan
    if plan is None or not entitlement.subscription_id:
        return None
    own = djstripe.Subscription.objects.filter(customer__subscriber=entitlement.organization_id)
    data = own.filter(id=entitlement.subscription_id).values_list("stripe_data", flat=True).first()
    return PlanSubscription(plan, data) if data else None


def plan_subscriptions_of(organization_ids: Iterable[UUID]) -> dict[UUID, list[PlanSubscription]]:
    """Return several organizations' subscriptions to our plans, those of each as `plan_subscriptions` does."""
    subscriptions = djstripe.Subscription.objects.filter(customer__subscriber__in=list(organization_ids))
    rows = list(subscriptions.values_list("customer__subscriber_id", "stripe_data"))
    if not rows:
        return {}  # As for most: the catalogue is not needed.
    found: defaultdict[UUID, list[PlanSubscription]] = defaultdict(list)
    finder = PlanFinder()
    for organization_id, data in rows:
        plan = finder.find(data)
        if plan:
            found[organization_id].append(PlanSubscription(plan, data))
    for each in found.values():
        each.sort(key=lambda s: (s.is_live, s.data["created"], s.id), reverse=True)
    return dict(found)


def find_plan(subscription: dict[str, Any]) -> Plan | None:
    """Return the plan that a subscription is for, or None when it sells something else."""
    return PlanFinder().find(subscription)


def find_live_subscription(organization: Organization) -> PlanSubscription | None:
    """Return the subscription that Stripe may still charge for. There is one at most, or somebody made a second."""
    return find_live_subscriptions([organization.pk]).get(organization.pk)


def find_live_subscriptions(organization_ids: Iterable[UUID]) -> dict[UUID, PlanSubscription]:
    """Return the subscriptions of several organizations that Stripe may still charge for."""
    return {
        organization_id: subscriptions[0]
        for organization_id, subscriptions in plan_subscriptions_of(organization_ids).items()
        if subscriptions[0].is_live
    }


def metered_since(organization: Organization, meter: Meter) -> datetime | None:
    """Return since when units of `meter` go on an invoice that is still to come, None where none will hold them."""
    return metered_since_by(find_live_subscription(organization), meter)


def metered_since_by(subscription: PlanSubscription | None, meter: Meter) -> datetime | None:
    """Return since when units of `meter` go on an invoice of `subscription` that is still to come, None where on none.

    That is the metered item's own period. It begins anew where its price is changed, and what was used
    before is on the change's invoice: while that one waits to be paid, from when it was made.
    """
    items = subscription.items if subscription else []
    starts = [
        item["current_period_start"]
        for item in items
        if meter.stripe_meter_id and item["price"]["recurring"].get("meter") == meter.stripe_meter_id
    ]
    if subscription is None or not starts:
        return None
    if subscription.data.get("pending_update"):
        invoices = djstripe.Invoice.objects.filter(id=subscription.data["latest_invoice"])
        starts += invoices.values_list("stripe_data__created", flat=True)
    return from_timestamp(max(starts))


def status_since(subscription: PlanSubscription, organization: Organization) -> datetime:
    """Return since when the subscription has had its status, from what the mirror holds alone.

    Stripe does not say. Past due and unpaid count from the first payment that failed, which is when the
    oldest unpaid invoice was finalized.
    """
    data = subscription.data
    if subscription.status in OWING:
        return first_failure(subscription, organization) or subscription.fee_period.start
    known = {
        "trialing": data.get("trial_start"),
        "active": data.get("trial_end"),
        "paused": data.get("trial_end"),
        "canceled": data.get("ended_at") or data.get("canceled_at"),
        "incomplete_expired": data.get("ended_at") or data.get("canceled_at"),
    }.get(subscription.status)
    return from_timestamp(known or data.get("start_date") or data["created"])


def first_failure(subscription: PlanSubscription, organization: Organization) -> datetime | None:
    """Return when the oldest of the subscription's unpaid invoices was finalized, None where the mirror has none."""
    owed = owed_invoices(subscription, organization)
    return from_timestamp(owed[0]["status_transitions"]["finalized_at"]) if owed else None


def owed_invoices(subscription: PlanSubscription, organization: Organization) -> list[dict[str, Any]]:
    """Return Stripe's objects of the invoices that the subscription has not paid, the oldest first."""
    rows = djstripe.Invoice.objects.filter(
        customer__subscriber=organization, stripe_data__status__in=["open", "uncollectible"]
    )
    owed = [
        invoice
        for invoice in rows.values_list("stripe_data", flat=True)
        # That of an upgrade that was not paid: the upgrade waits, and nothing is owed.
        if subscription_of(invoice) == subscription.id and invoice["billing_reason"] != "subscription_update"
    ]
    return sorted(owed, key=lambda invoice: int(invoice["status_transitions"]["finalized_at"]))


def subscription_of(invoice: dict[str, Any]) -> str | None:
    """Return the id of the subscription that an invoice of Stripe's is for, None where it is for none."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    found = details.get("subscription")
    return str(found) if found else None
