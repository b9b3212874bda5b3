"""Bringing one subscription to its plan's current prices, at its next renewal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from djstripe import models as djstripe

from accounts.models import Organization
from billing.entitlements import refresh_entitlement
from billing.errors import BillingError
from billing.locks import customer_lock
from billing.models import Plan, PlanPrice, SubscriberMove
from billing.signals import invoice_closing
from billing.stripe.client import get_client, translated_errors
from billing.stripe.customers import find_customer
from billing.subscribers import Replacement, meter_keys, replacements
from billing.subscriptions import PlanSubscription, find_plan, from_timestamp, plan_subscriptions

State = SubscriberMove.State


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be asked of Stripe now, a call each, and what is known then. `detail` is a sentence for staff."""

    state: State
    detail: str = ""
    not_before: datetime | None = None
    calls: tuple[dict[str, Any], ...] = field(default=())


def move_subscription(
    organization: Organization, *, subscription_id: str, plan: Plan, not_before: datetime | None
) -> Step:
    """Go on with bringing a subscription to its plan's current prices, as far as that can be done now.

    The fee changes at once, without proration, so from the next renewal on. A metered price changes once its
    month has turned, which `not_before` says when it is known: swapped within a month, what was used in it
    would be lost or would begin a second allowance. Raises StripeUnavailable or StripeRejected.
    """
    customer = find_customer(organization)
    if customer is None:
        return Step(State.SKIPPED, "The organization has no customer at Stripe any more.")
    known = next((s for s in plan_subscriptions(organization) if s.id == subscription_id), None)
    if known and swaps(next_step(known, plan=plan, not_before=not_before)):
        # What was used in the first minutes of the month is billed by the price that it was used at.
        invoice_closing.send(sender=Organization, organization=organization)
    failure: BillingError | None = None
    step = Step(State.PENDING)
    with customer_lock(customer.id):
        try:
            with translated_errors():
                step = carry_on(subscription_id, plan=plan, not_before=not_before)
        except BillingError as error:
            failure = error
    # After the transaction, so that what was learnt from Stripe stays known.
    refresh_entitlement(organization)
    if failure:
        raise failure
    return step


def carry_on(subscription_id: str, *, plan: Plan, not_before: datetime | None) -> Step:
    """Take the next step from what Stripe has now, and copy what comes of it into the mirror."""
    subscriptions = get_client().v1.subscriptions
    data = subscriptions.retrieve(subscription_id)
    djstripe.Subscription.sync_from_stripe_data(data)
    plain = data.to_dict(for_json=True)
    bought = find_plan(plain)
    if bought is None:
        return Step(State.SKIPPED, "Its subscription is for none of the plans any more.")
    step = next_step(PlanSubscription(bought, plain), plan=plan, not_before=not_before)
    for call in step.calls:
        params: Any = call
        data = subscriptions.update(subscription_id, params)
        djstripe.Subscription.sync_from_stripe_data(data)
    return step


def next_step(subscription: PlanSubscription, *, plan: Plan, not_before: datetime | None) -> Step:
    """Decide what to do with a subscription as it is now. Asks nobody."""
    reason = why_skipped(subscription, plan)
    if reason:
        return Step(State.SKIPPED, reason)
    prices = plan.offered_prices(interval=subscription.interval, currency=subscription.currency)
    wanted = replacements(subscription, prices, meters=meter_keys())
    swapped = [each for each in wanted if each.price.meter_id and each.item_id]
    at_once = [each for each in wanted if each not in swapped]
    calls = []
    if at_once:
        calls.append({"items": items_of(at_once), "proration_behavior": "none"})
    turns = [period_of(subscription, each) for each in swapped]
    if swapped and not has_turned(subscription, turns, not_before):
        turn = not_before or max(end for _, end in turns)
        detail = f"The price of what is used moves when its month turns, on {turn:%-d %B %Y}."
        if at_once:
            detail = f"The rest is moved. {detail}"
        return Step(State.WAITING, detail, turn, tuple(calls))
    if swapped:
        # What was used since the month turned goes on the next invoice, by the older price.
        calls.append({"items": items_of(swapped), "proration_behavior": "create_prorations"})
    return Step(State.MOVED, calls=tuple(calls))


def has_turned(
    subscription: PlanSubscription,
    periods: Iterable[tuple[datetime, datetime]],
    not_before: datetime | None,
) -> bool:
    """Whether the month has turned since staff ordered the move. Nothing used in a trial is billed."""
    if subscription.status == "trialing":
        return True
    return not_before is not None and all(start >= not_before for start, _ in periods)


def period_of(subscription: PlanSubscription, replacement: Replacement) -> tuple[datetime, datetime]:
    item = next(item for item in subscription.items if item["id"] == replacement.item_id)
    return from_timestamp(item["current_period_start"]), from_timestamp(item["current_period_end"])


def why_skipped(subscription: PlanSubscription, plan: Plan) -> str:
    """Return a sentence on why a subscription is to be left as it is, empty where it can be moved."""
    data: Mapping[str, Any] = subscription.data
    interval, currency = subscription.interval, subscription.currency
    prices: list[PlanPrice] = plan.offered_prices(interval=interval, currency=currency)
    reasons = [
        (not subscription.is_live, "Its subscription has ended."),
        (subscription.plan != plan, f"It is on {subscription.plan} by now."),
        (not subscription.has_begun, "Its first payment is not complete."),
        (data.get("schedule"), "A change of plan is scheduled: move it once that has come or was undone."),
        (data.get("pending_update"), "A change of plan waits for its payment: move it afterwards."),
        (not prices, f"{plan} is not sold by the {interval} in {currency} any more."),
        (not all(price.is_published for price in prices), f"{plan} has prices that are not published."),
    ]
    return next((reason for is_so, reason in reasons if is_so), "")


def items_of(wanted: Iterable[Replacement]) -> list[dict[str, Any]]:
    return [
        {"price": each.price.stripe_price_id} | ({"id": each.item_id} if each.item_id else {})
        for each in wanted
    ]


def swaps(step: Step) -> bool:
    return any(call["proration_behavior"] != "none" for call in step.calls)
