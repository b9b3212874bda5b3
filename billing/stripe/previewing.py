"""What a change of plan would cost, to the cent, before it is made."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dateutil.relativedelta import relativedelta

from accounts import clock
from accounts.models import Organization
from billing import agreements
from billing.changes import (
    MONTHS,
    Kind,
    Target,
    check_changeable,
    find_target,
    is_held,
    item_changes,
    kind_of,
    metered_items,
    nothing_changes,
)
from billing.models import Plan
from billing.signals import invoice_closing
from billing.stripe.acting import act, fresh_subscription
from billing.stripe.quotes import (
    Invoice,
    PreviewLine,
    balance_after,
    draft_preview,
    fingerprint,
    lines_of,
    preview_lines,
    price_of,
    running_discounts,
    total_of,
)
from billing.subscriptions import PlanSubscription, find_live_subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePreview:
    """What a change would do. Amounts are in minor units of `currency`.

    `lines` add up to `amount_due`, which is charged at once; `next_lines` to `next_amount`, the next regular
    fee, which falls due at `next_at`: None where the change ends the subscription. `token` says to
    `change_plan` what was shown.
    """

    kind: str
    plan: Plan
    interval: str
    amount_due: int
    currency: str
    lines: list[PreviewLine]
    effective_at: datetime
    next_amount: int
    next_at: datetime | None
    token: str
    next_lines: list[PreviewLine] = field(default_factory=list)


def preview_change(organization: Organization, *, plan: Plan, interval: str = "month") -> ChangePreview:
    """Return what a change to `plan`, paid by the `interval`, would cost now and next. Changes nothing.

    Raises NoSubscription, ChangeRefused, NotPublished, UsageNotReported, StripeUnavailable or StripeRejected.
    """
    known = find_live_subscription(organization)
    if known is not None and known.status == "active":
        # Usage so far is a part of what is shown.
        invoice_closing.send(sender=Organization, organization=organization)

    def look(customer_id: str) -> ChangePreview:
        subscription = fresh_subscription(organization, customer_id)
        check_changeable(subscription)
        target = find_target(plan, interval=interval, currency=subscription.currency)
        if is_held(subscription, target):
            raise nothing_changes(target)
        return preview(organization, subscription, target)

    return act(organization, look)


def preview(organization: Organization, subscription: PlanSubscription, target: Target) -> ChangePreview:
    kind = kind_of(subscription, target)
    # Never before the period that it is to divide: two clocks may differ by a second.
    at = max(clock.now().replace(microsecond=0), subscription.fee_period.start)
    due: Invoice | None = None
    following: Invoice | None = None
    lines: list[PreviewLine] = []
    effective_at, next_at = at, None
    if kind is Kind.UPGRADE:
        due = quote_upgrade(subscription, target, at=int(at.timestamp()))
        lines = preview_lines(due)
        next_at = next_fee_at(subscription, target, at=at)
        following = quote_fee(subscription, target, at=next_at, balance=balance_after(due))
    elif kind is Kind.SWITCH:
        next_at = subscription.fee_period.end
        following = draft_preview(subscription, switch_terms(subscription, target))
    else:
        effective_at = subscription.fee_period.end
        if not target.is_leaving:
            next_at = effective_at
            following = quote_first_after(subscription, target, at=effective_at)
    amount_due = due["amount_due"] if due else 0
    return ChangePreview(
        kind=kind,
        plan=target.plan,
        interval=target.interval,
        amount_due=amount_due,
        currency=subscription.currency,
        lines=lines,
        effective_at=effective_at,
        next_amount=following["amount_due"] if following else 0,
        next_at=next_at,
        next_lines=preview_lines(following) if following else [],
        token=agreements.sign(
            agreements.Agreement(
                organization=str(organization.pk),
                subscription=subscription.id,
                plan=target.plan.slug,
                interval=target.interval,
                proration_date=int(at.timestamp()),
                amount_due=amount_due,
                currency=subscription.currency,
                from_price=subscription.fee_item["price"]["id"],
                to_price="" if target.is_leaving else target.fee_id,
                fixed=fingerprint(due, usage_prices=usage_prices(subscription)) if due else "",
            )
        ),
    )


def upgrade_terms(subscription: PlanSubscription, target: Target, *, at: int | None) -> dict[str, Any]:
    """Return the parameters of an upgrade: the preview and the real one are asked for in the same words."""
    terms = {"items": item_changes(subscription, target), "proration_behavior": "always_invoice"}
    return terms if at is None else terms | {"proration_date": at}


def switch_terms(subscription: PlanSubscription, target: Target) -> dict[str, Any]:
    return {"items": item_changes(subscription, target), "proration_behavior": "none"}


def quote_upgrade(subscription: PlanSubscription, target: Target, *, at: int) -> Invoice:
    """Return the invoice that an upgrade prorated from `at` makes."""
    return draft_preview(subscription, upgrade_terms(subscription, target, at=at))


def usage_prices(subscription: PlanSubscription) -> set[str]:
    return {item["price"]["id"] for item in metered_items(subscription)}


def next_fee_at(subscription: PlanSubscription, target: Target, *, at: datetime) -> datetime:
    """Return when an upgraded subscription's next fee falls due: another interval begins a new period."""
    if target.interval == subscription.interval:
        return subscription.fee_period.end
    return at + relativedelta(months=MONTHS[target.interval])


def quote_fee(
    subscription: PlanSubscription, target: Target, *, at: datetime, balance: int | None = None
) -> Invoice:
    """Return what the target's fee alone comes to on an invoice of `at`, as far as that can be known.

    With `balance` that is what the customer has on account by then.
    """
    invoice = _begun_anew(subscription, target, at=at)
    fees = [line for line in lines_of(invoice) if price_of(line) == target.fee_id]
    total = total_of(fees)
    start = invoice["starting_balance"] if balance is None else balance
    return invoice | {
        "lines": {**invoice["lines"], "data": fees, "has_more": False},
        "starting_balance": start,
        "subtotal": sum(line["amount"] for line in fees),
        "total": total,
        "total_discount_amounts": [each for line in fees for each in line["discount_amounts"] or []],
        "amount_due": max(total + start, 0),
    }


def quote_first_after(subscription: PlanSubscription, target: Target, *, at: datetime) -> Invoice:
    """Return the first invoice after a change at the end of the fee's period.

    In the last month it holds what was used so far. Before, months lie between whose usage nobody knows,
    and what is used in this one is on an earlier invoice.
    """
    ends = {item["current_period_end"] for item in metered_items(subscription)}
    if ends <= {int(at.timestamp())}:
        return _begun_anew(subscription, target, at=at)
    return quote_fee(subscription, target, at=at)


def _begun_anew(subscription: PlanSubscription, target: Target, *, at: datetime) -> Invoice:
    """Return the invoice of a period that began with the target's fee, discounts as they are at `at`.

    Stripe previews changes that are made now: so the period is begun now, with the old one given away. The
    metered items stay as they are, because what was used is billed at the price that it was used at.
    """
    details = {
        "items": item_changes(subscription, target)[:1],
        "billing_cycle_anchor": "now",
        "proration_behavior": "none",
    }
    if not subscription.data["discounts"]:
        return draft_preview(subscription, details)
    # An empty string stands for none, where leaving it out stands for those there are.
    return draft_preview(subscription, details, discounts=running_discounts(subscription, at=at) or "")
