"""Ending a subscription: at the period's end, or now; and taking that back."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from djstripe import models as djstripe

from accounts.models import Organization
from billing.errors import ChangeRefused, NoSubscription
from billing.signals import invoice_closing
from billing.stripe.acting import act, fresh_subscription, keep_subscription, sync_invoice, sync_subscription
from billing.stripe.client import get_client
from billing.stripe.pending import give_up
from billing.stripe.quotes import PreviewLine, draft_preview, preview_lines
from billing.stripe.scheduling import release_schedule
from billing.stripe.subscriptions import sync_subscriptions
from billing.subscriptions import (
    LIVE,
    PlanSubscription,
    find_live_subscription,
    plan_subscriptions,
)

# In these nothing is owed for what is used: ending them makes no invoice.
FREE_OF_CHARGE = frozenset({"trialing", "paused", "incomplete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelPreview:
    """What ending now would cost, in minor units of `currency`. `lines` add up to `amount_due`."""

    amount_due: int
    currency: str
    lines: list[PreviewLine]


def cancel_at_period_end(organization: Organization) -> datetime:
    """Have the subscription end when what is paid for is over, a trial with the trial; return when that is.

    A scheduled change and an upgrade that waits for payment are given up. Once it is set, again changes
    nothing. Raises NoSubscription, ChangeRefused (code incomplete), StripeUnavailable or StripeRejected.
    """

    def end(customer_id: str) -> datetime:
        subscription = fresh_subscription(organization, customer_id)
        if subscription.status == "incomplete":
            raise ChangeRefused(
                "Your first payment is not complete yet: there is no period to end with. Cancel it now instead.",
                code="incomplete",
            )
        if subscription.data["pending_update"]:
            give_up(subscription)
            subscription = fresh_subscription(organization, customer_id)
        return set_end(subscription)

    return act(organization, end)


def set_end(subscription: PlanSubscription) -> datetime:
    """Set the subscription to end with the fee's period, and return when. Under the customer's lock."""
    if subscription.cancels_at is not None:
        return subscription.cancels_at
    if subscription.data["schedule"]:
        release_schedule(subscription)
    end = subscription.fee_period.end
    params: Any = {"cancel_at_period_end": True}
    if any(item["current_period_end"] != int(end.timestamp()) for item in subscription.items):
        # Beside a yearly fee usage is billed monthly, and Stripe would end it with the first period that ends.
        params = {"cancel_at": int(end.timestamp()), "proration_behavior": "none"}
    data = keep_subscription(get_client().v1.subscriptions.update(subscription.id, params))
    return PlanSubscription(subscription.plan, data).cancels_at or end


def resume(organization: Organization) -> None:
    """Let a subscription that is set to end go on, whoever set it. Changes nothing where none is.

    Raises NoSubscription, StripeUnavailable or StripeRejected.
    """

    def go_on(customer_id: str) -> None:
        lift_end(fresh_subscription(organization, customer_id))

    act(organization, go_on)


def lift_end(subscription: PlanSubscription) -> None:
    """Take the date off on which the subscription is to end. Under the customer's lock."""
    if subscription.cancels_at is None:
        return
    data: Any = subscription.data
    if data["schedule"]:
        # The end is the schedule's, and goes with it.
        release_schedule(subscription)
        data = sync_subscription(subscription.id)
        if not data["cancel_at"] and not data["cancel_at_period_end"]:
            return
    # The portal sets the date alone.
    params: Any = {"cancel_at_period_end": False} if data["cancel_at_period_end"] else {"cancel_at": ""}
    keep_subscription(get_client().v1.subscriptions.update(subscription.id, params))


def preview_cancel_now(organization: Organization) -> CancelPreview:
    """Return what ending now would cost: usage so far, less what is left of the fee.

    Raises NoSubscription, StripeUnavailable or StripeRejected.
    """
    report_usage_so_far(organization)

    def look(customer_id: str) -> CancelPreview:
        subscription = fresh_subscription(organization, customer_id)
        nothing = CancelPreview(amount_due=0, currency=subscription.currency, lines=[])
        if subscription.status in FREE_OF_CHARGE:
            return nothing
        try:
            invoice = draft_preview(
                subscription, {"cancel_now": True, "proration_behavior": "create_prorations"}
            )
        except stripe.InvalidRequestError as error:
            if error.code != "invoice_upcoming_none":
                raise
            return nothing
        return CancelPreview(
            amount_due=invoice["amount_due"], currency=invoice["currency"], lines=preview_lines(invoice)
        )

    return act(organization, look)


def cancel_now(organization: Organization) -> None:
    """End the subscription now. What was used so far is invoiced, less what is left of the fee.

    It ends even where that last invoice cannot be collected: the invoice then stays open. Changes nothing
    where it has ended already. Raises UsageNotReported where usage would be lost, NoSubscription where there
    never was one, StripeUnavailable or StripeRejected.
    """
    report_usage_so_far(organization)

    def end(customer_id: str) -> None:
        sync_subscriptions(customer_id)
        subscription = find_live_subscription(organization)
        if subscription is not None:
            cancel(subscription)
        ended = plan_subscriptions(organization)
        if not ended:
            raise NoSubscription(f"{organization} has no subscription.")
        settle_last_invoice(ended[0])

    act(organization, end)


def report_usage_so_far(organization: Organization) -> None:
    """Have usage reported that the last invoice is to hold. Raises UsageNotReported."""
    known = find_live_subscription(organization)
    if known is not None and known.status not in FREE_OF_CHARGE:
        invoice_closing.send(sender=Organization, organization=organization)


def cancel(subscription: PlanSubscription) -> None:
    """End the subscription at Stripe. Under the customer's lock."""
    if subscription.data["pending_update"]:
        give_up(subscription)
    params: Any = {}
    if subscription.status not in FREE_OF_CHARGE:
        params = {"invoice_now": True, "prorate": True}
    try:
        keep_subscription(get_client().v1.subscriptions.cancel(subscription.id, params))
    except stripe.InvalidRequestError:
        # Sent again by the library after a lost answer: Stripe then knows no such subscription any more.
        if sync_subscription(subscription.id)["status"] in LIVE:
            raise
    schedule = subscription.data["schedule"]
    if schedule:
        djstripe.SubscriptionSchedule.sync_from_stripe_data(
            get_client().v1.subscription_schedules.retrieve(schedule)
        )


def settle_last_invoice(subscription: PlanSubscription) -> None:
    """Fetch the last invoice. The first one, unpaid, is voided: nobody is to pay for what never began."""
    invoice_id = subscription.data["latest_invoice"]
    if subscription.is_live or not invoice_id:
        return
    invoice = sync_invoice(invoice_id)
    is_first = invoice["billing_reason"] == "subscription_create"
    if is_first and invoice["status"] == "open" and invoice["collection_method"] == "charge_automatically":
        get_client().v1.invoices.void_invoice(invoice_id)
        sync_invoice(invoice_id)
