"""Changing a subscription's plan: at once and paid for, at the period's end, or at once in a trial."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from accounts import clock
from accounts.models import Organization
from billing import agreements
from billing.agreements import OUTDATED, Agreement
from billing.changes import Kind, Target, check_changeable, find_target, is_held, kind_of, nothing_changes
from billing.errors import ChangeRefused, NotPublished, PaymentDeclined, PreviewOutdated
from billing.models import Plan
from billing.signals import invoice_closing
from billing.standing import find_scheduled_change
from billing.stripe.acting import act, fresh_subscription, keep_subscription, sync_invoice, sync_subscription
from billing.stripe.client import get_client
from billing.stripe.ending import lift_end, set_end
from billing.stripe.pending import give_up, settle, take_up
from billing.stripe.previewing import (
    quote_upgrade,
    switch_terms,
    upgrade_terms,
    usage_prices,
)
from billing.stripe.quotes import fingerprint
from billing.stripe.scheduling import release_schedule, schedule_change
from billing.subscriptions import PlanSubscription, find_live_subscription, from_timestamp

# How long asking for what has just been done is taken for the same wish, sent again.
REPEATED_WITHIN = timedelta(hours=1)
CHANGED_AT = "tollgate_changed_at"


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """What came of a change: done now, scheduled for the period's end, or waiting for the customer.

    With `requires_action` the bank wants them to confirm the payment, at `payment_url`; until they have,
    nothing has changed.
    """

    state: Literal["done", "scheduled", "requires_action"]
    payment_url: str = ""


def change_plan(
    organization: Organization, *, plan: Plan, interval: str = "month", token: str | None = None
) -> ChangeOutcome:
    """Change the subscription to `plan`, paid by the `interval`; with a preview's `token` as it was shown.

    An upgrade is charged for at once and given only when paid: a declined one is taken back. A downgrade is
    scheduled for the end of the fee's period; one to the plan of last resort ends the subscription then.
    Repeating a change gives the same outcome. Raises PaymentDeclined, PreviewOutdated, ChangeRefused (codes
    incomplete, payment_overdue, paused, set_to_end, nothing_changes, renewing), NotPublished, NoSubscription,
    StripeUnavailable or StripeRejected.
    """
    agreed = (
        agreements.read(token, organization=organization, plan=plan, interval=interval) if token else None
    )
    report_usage_before(organization, plan=plan, interval=interval)

    def change(customer_id: str) -> ChangeOutcome:
        subscription = fresh_subscription(organization, customer_id)
        if plan.is_default and subscription.cancels_at is not None:
            return ChangeOutcome("scheduled")
        check_changeable(subscription, now=clock.now())
        target = find_target(plan, interval=interval, currency=subscription.currency)
        if is_held(subscription, target):
            if not subscription.data["schedule"] and has_just_come(subscription, agreed):
                return ChangeOutcome("done")
            raise nothing_changes(target)
        if agreed:
            check_agreed(agreed, subscription, target)
        return make(organization, customer_id, subscription, target, agreed=agreed)

    outcome = act(organization, change)
    if outcome.state == "done":
        act(organization, lambda _: note_plan(organization))
    return outcome


def report_usage_before(organization: Organization, *, plan: Plan, interval: str) -> None:
    """Have usage reported where the change closes the price that it is billed at.

    Raises UsageNotReported where that cannot be done.
    """
    known = find_live_subscription(organization)
    if known is None or known.status != "active" or plan.is_default:
        return  # Of a trial nothing is billed, and leaving closes nothing now; anything else will be refused.
    prices = plan.offered_prices(interval=interval, currency=known.currency)
    if prices and kind_of(known, Target(plan, interval, tuple(prices))) is Kind.UPGRADE:
        invoice_closing.send(sender=Organization, organization=organization)


def make(
    organization: Organization,
    customer_id: str,
    subscription: PlanSubscription,
    target: Target,
    *,
    agreed: Agreement | None,
) -> ChangeOutcome:
    if subscription.data["pending_update"]:
        url = take_up(subscription, target)
        if url:
            return ChangeOutcome("requires_action", url)
        subscription = fresh_subscription(organization, customer_id)
        if is_held(subscription, target):
            return ChangeOutcome("done")  # It was paid for in this very moment.
    kind = kind_of(subscription, target)
    if kind is Kind.UPGRADE:
        return upgrade(subscription, target, agreed=agreed)
    if kind is Kind.SWITCH:
        return switch_in_trial(subscription, target)
    if target.is_leaving:
        set_end(subscription)
    else:
        schedule_change(subscription, target)
    return ChangeOutcome("scheduled")


def upgrade(subscription: PlanSubscription, target: Target, *, agreed: Agreement | None) -> ChangeOutcome:
    if agreed:
        due = quote_upgrade(subscription, target, at=agreed.proration_date)
        if fingerprint(due, usage_prices=usage_prices(subscription)) != agreed.fixed:
            raise PreviewOutdated(OUTDATED)
    scheduled = scheduled_target(subscription)
    if subscription.data["schedule"]:
        release_schedule(subscription)
    terms: Any = upgrade_terms(subscription, target, at=agreed.proration_date if agreed else None)
    if subscription.data["collection_method"] == "charge_automatically":
        # Stripe has no pending updates for customers who pay by invoice: they are trusted.
        terms |= {"payment_behavior": "pending_if_incomplete"}
    data = keep_subscription(get_client().v1.subscriptions.update(subscription.id, terms))
    if not data["pending_update"]:
        sync_invoice(data["latest_invoice"])
        return ChangeOutcome("done")
    try:
        url = settle(PlanSubscription(target.plan, data))
    except PaymentDeclined:
        if scheduled:
            # All is to be as it was before the try.
            schedule_change(
                PlanSubscription(subscription.plan, sync_subscription(subscription.id)), scheduled
            )
        raise
    return ChangeOutcome("requires_action", url) if url else ChangeOutcome("done")


def scheduled_target(subscription: PlanSubscription) -> Target | None:
    """Return what the subscription is scheduled to become, None where that can no longer be bought."""
    found = find_scheduled_change(subscription)
    if found is None:
        return None
    try:
        return find_target(found.plan, interval=found.interval, currency=subscription.currency)
    except NotPublished:
        return None


def switch_in_trial(subscription: PlanSubscription, target: Target) -> ChangeOutcome:
    if subscription.data["schedule"]:
        release_schedule(subscription)
    terms: Any = switch_terms(subscription, target) | {
        "metadata": {
            "tollgate_plan": target.plan.slug,
            # No invoice tells of it: by this the same wish, sent again, is known.
            CHANGED_AT: str(int(clock.now().timestamp())),
        }
    }
    keep_subscription(get_client().v1.subscriptions.update(subscription.id, terms))
    return ChangeOutcome("done")


def check_agreed(agreed: Agreement, subscription: PlanSubscription, target: Target) -> None:
    """Raise PreviewOutdated where what was shown is not what there is now. Its amount is another question."""
    shown = (agreed.subscription, agreed.from_price, agreed.to_price, agreed.currency)
    present = (
        subscription.id,
        subscription.fee_item["price"]["id"],
        "" if target.is_leaving else target.fee_id,
        subscription.currency,
    )
    if shown != present or from_timestamp(agreed.proration_date) not in subscription.fee_period:
        raise PreviewOutdated(OUTDATED)


def has_just_come(subscription: PlanSubscription, agreed: Agreement | None) -> bool:
    """Whether the subscription came to its plan by the change that is asked for: sent twice, or answered in vain."""
    if agreed:
        return agreed.from_price != subscription.fee_item["price"]["id"]
    if is_recent(subscription.data["metadata"].get(CHANGED_AT, "")):
        return True
    if not subscription.data["latest_invoice"]:
        return False
    invoice = sync_invoice(subscription.data["latest_invoice"])
    return invoice["billing_reason"] == "subscription_update" and is_recent(str(invoice["created"]))


def is_recent(timestamp: str) -> bool:
    return timestamp.isdigit() and abs(clock.now() - from_timestamp(int(timestamp))) < REPEATED_WITHIN


def note_plan(organization: Organization) -> None:
    """Note at Stripe which plan the subscription is for: an upgrade takes no such note along."""
    subscription = find_live_subscription(organization)
    if subscription is None or subscription.data["metadata"].get("tollgate_plan") == subscription.plan.slug:
        return
    note: Any = {"metadata": {"tollgate_plan": subscription.plan.slug}}
    keep_subscription(get_client().v1.subscriptions.update(subscription.id, note))


def undo_change(organization: Organization) -> None:
    """Take back what is scheduled for the period's end, or give up an upgrade that waits for its payment.

    Changes nothing where there is neither. Raises NoSubscription, ChangeRefused (code already_paid),
    StripeUnavailable or StripeRejected.
    """

    def undo(customer_id: str) -> None:
        subscription = fresh_subscription(organization, customer_id)
        if subscription.data["pending_update"]:
            before = subscription.fee_item["price"]["id"]
            after = subscription if give_up(subscription) else fresh_subscription(organization, customer_id)
            if after.fee_item["price"]["id"] != before:
                raise ChangeRefused(
                    "The change has been paid for in the meantime and cannot be taken back.",
                    code="already_paid",
                )
        elif subscription.data["schedule"]:
            release_schedule(subscription)
        else:
            lift_end(subscription)

    act(organization, undo)
