"""How an organization's subscription stands: all that pages and the API show of it, from the mirror alone."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.models import Plan
from billing.subscriptions import (
    PlanSubscription,
    find_live_subscription,
    find_plan,
    from_timestamp,
    subscription_of,
)


@dataclass(frozen=True, slots=True)
class ScheduledChange:
    """A change of plan that comes by itself at `at`."""

    plan: Plan
    interval: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PendingUpgrade:
    """An upgrade that waits for the customer to confirm its payment at `payment_url`."""

    plan: Plan
    interval: str
    amount: int
    payment_url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """What is charged. `brand` is a card's, else the kind, such as sepa_debit; what it lacks is empty or None."""

    brand: str
    last4: str
    exp_month: int | None
    exp_year: int | None


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """An invoice that is owed. `amount` is what remains, in minor units of `currency`."""

    id: str
    amount: int
    currency: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The live subscription. `fee_amount` is in minor units, each `interval`, before discounts and taxes.

    `status` is Stripe's. `open_invoice` is the oldest one owed; that of a pending upgrade is not owed.
    """

    subscription_id: str
    plan: Plan
    interval: str
    currency: str
    status: str
    fee_amount: int
    period_start: datetime
    period_end: datetime
    trial_ends_at: datetime | None
    cancels_at: datetime | None
    scheduled_change: ScheduledChange | None
    pending_upgrade: PendingUpgrade | None
    payment_method: PaymentMethod | None
    open_invoice: OpenInvoice | None


def find_standing(organization: Organization) -> Standing | None:
    """Return how the live subscription stands, None where there is none. Asks nobody but the mirror."""
    subscription = find_live_subscription(organization)
    if subscription is None:
        return None
    return Standing(
        subscription_id=subscription.id,
        plan=subscription.plan,
        interval=subscription.interval,
        currency=subscription.currency,
        status=subscription.status,
        fee_amount=subscription.fee_amount,
        period_start=subscription.fee_period.start,
        period_end=subscription.fee_period.end,
        trial_ends_at=subscription.trial_ends_at,
        cancels_at=subscription.cancels_at,
        scheduled_change=find_scheduled_change(subscription),
        pending_upgrade=find_pending_upgrade(subscription),
        payment_method=find_payment_method(subscription),
        open_invoice=find_open_invoice(subscription),
    )


def find_scheduled_change(subscription: PlanSubscription) -> ScheduledChange | None:
    """Return the next change that the subscription's schedule makes, None where it makes none."""
    row = djstripe.SubscriptionSchedule.objects.filter(id=subscription.data["schedule"] or "").first()
    if row is None or row.stripe_data["status"] not in {"active", "not_started"}:
        return None
    now = clock.now().timestamp()
    for phase in row.stripe_data["phases"]:
        found = plan_of_items(phase["items"]) if phase["start_date"] > now else None
        if found and found != (subscription.plan, subscription.interval):
            return ScheduledChange(*found, from_timestamp(phase["start_date"]))
    return None


def find_pending_upgrade(subscription: PlanSubscription) -> PendingUpgrade | None:
    pending = subscription.data.get("pending_update")
    found = plan_of_items(pending.get("subscription_items") or []) if pending else None
    row = djstripe.Invoice.objects.filter(id=subscription.data["latest_invoice"] or "").first()
    if pending is None or found is None or row is None or row.stripe_data["status"] != "open":
        return None
    return PendingUpgrade(
        *found,
        amount=row.stripe_data["amount_remaining"],
        payment_url=row.stripe_data["hosted_invoice_url"] or "",
        expires_at=from_timestamp(pending["expires_at"]),
    )


def plan_of_items(items: list[dict[str, Any]]) -> tuple[Plan, str] | None:
    """Return the plan and interval that items buy, whose prices are objects or ids; None for no plan of ours."""
    ids = [item["price"] if isinstance(item["price"], str) else item["price"]["id"] for item in items]
    rows = djstripe.Price.objects.filter(id__in=ids).values_list("stripe_data", flat=True)
    prices = [price for price in rows if price["recurring"]]
    plan = find_plan({"items": {"data": [{"price": price} for price in prices]}})
    fees = [price["recurring"] for price in prices if price["recurring"]["usage_type"] == "licensed"]
    return (plan, str(fees[0]["interval"])) if plan and fees else None


def find_payment_method(subscription: PlanSubscription) -> PaymentMethod | None:
    """Return what the subscription is charged to: its own, else the customer's default."""
    method = subscription.data["default_payment_method"]
    if not method:
        customers = djstripe.Customer.objects.filter(id=subscription.data["customer"])
        customer = customers.values_list("stripe_data", flat=True).first() or {}
        method = (customer.get("invoice_settings") or {}).get("default_payment_method")
    row = djstripe.PaymentMethod.objects.filter(id=method or "").first()
    if row is None:
        return None
    kind = str(row.stripe_data["type"])
    details = row.stripe_data.get(kind) or {}
    return PaymentMethod(
        brand=details.get("brand") or kind,
        last4=details.get("last4") or "",
        exp_month=details.get("exp_month"),
        exp_year=details.get("exp_year"),
    )


def find_open_invoice(subscription: PlanSubscription) -> OpenInvoice | None:
    """Return the oldest invoice of the subscription that is owed."""
    waiting = subscription.data["latest_invoice"] if subscription.data.get("pending_update") else None
    rows = djstripe.Invoice.objects.filter(
        customer__id=subscription.data["customer"], stripe_data__status="open"
    ).order_by("created")
    for data in rows.values_list("stripe_data", flat=True):
        if subscription_of(data) == subscription.id and data["id"] != waiting:
            return OpenInvoice(
                data["id"], data["amount_remaining"], data["currency"], data["hosted_invoice_url"] or ""
            )
    return None
