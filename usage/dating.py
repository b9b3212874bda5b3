"""The moment that a report's units are dated at: it decides which invoice holds them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from djstripe import models as djstripe

from billing.errors import StripeUnavailable
from billing.models import Entitlement
from billing.periods import anchored_month, calendar_month
from billing.subscriptions import (
    PlanSubscription,
    from_timestamp,
    metered_since_by,
    plan_subscriptions_of,
)
from usage.closed import ClosedPeriod, invoiced_periods
from usage.models import MeterReport

# Stripe counts in whole seconds.
SECOND = timedelta(seconds=1)
# Stripe waits for 23 hours.
FIRST_PAYMENT_WITHIN = timedelta(days=1)


class Terms:
    """What decides the moments of several organizations' reports, as the mirror has it when it is first asked for."""

    def __init__(self, organization_ids: Iterable[UUID]) -> None:
        self._ids = list(organization_ids)
        # Of many whose invoices have to be asked for, one that gets no answer is enough to know that Stripe gives none.
        self.silence: StripeUnavailable | None = None

    @cached_property
    def entitlements(self) -> dict[UUID, Entitlement]:
        return {each.organization_id: each for each in Entitlement.objects.filter(organization__in=self._ids)}

    @cached_property
    def known(self) -> dict[UUID, list[PlanSubscription]]:
        """Of each all the subscriptions there were, the newest first."""
        return plan_subscriptions_of(self._ids)

    @cached_property
    def subscriptions(self) -> dict[UUID, PlanSubscription]:
        """Of each the one that usage is charged to, where Stripe may still charge for it, else the newest such."""
        found = {}
        for organization_id, known in self.known.items():
            live = [each for each in known if each.is_live]
            entitlement = self.entitlements.get(organization_id)
            served = [each for each in live if entitlement and each.id == entitlement.subscription_id]
            if live:
                found[organization_id] = (served or live)[0]
        return found


def moment_of(report: MeterReport, *, now: datetime, terms: Terms | None = None) -> datetime:
    """Return the moment to report the units at, such that an invoice to come holds them.

    That is inside their hour and their quota period. Where the subscription's price was changed since, what
    lies before the change has been invoiced: units of the same month that had not been reported by then are
    dated after it, also when the month has ended and its invoice is still a draft. What was used on the free plan
    while a subscription waited for its first payment is dated before that one's start: no invoice holds it.
    Nothing else moves them, however old they are and whatever was invoiced: see `usage.lateness`. Raises
    StripeUnavailable where Stripe has to be asked what is on an invoice of many lines.
    """
    terms = terms or Terms([report.organization_id])
    # An invoice made in this second holds what lies before it: in an hour's first one that is the hour before.
    past = now - SECOND
    own = max(min(report.timestamp, past), report.period_start)
    entitlement = terms.entitlements.get(report.organization_id)
    if entitlement is None:
        return own
    free = moment_when_free(report, own, terms.known.get(report.organization_id, []))
    if free < own:
        return free
    is_this_month = report.period_start in entitlement.counted_starts
    subscription = terms.subscriptions.get(report.organization_id)
    since = metered_since_by(subscription, report.meter)
    # From the period's end on it is a renewal that made the new one, and usage stays in the old.
    if subscription is not None and is_this_month and since is not None and since < entitlement.period_end:
        # What was used before anything of the meter was sold is on no invoice, and on none to come.
        return max(own, since) if own >= since or was_sold(report, subscription, before=since) else own
    end = entitlement.period_end if is_this_month else entitlement.period_start
    if subscription is None or now < end or not is_before(report, end, subscription):
        return own
    if terms.silence:
        raise terms.silence
    try:
        return still_open(report, own, end=end, subscription=subscription) or own
    except StripeUnavailable as error:
        terms.silence = error
        raise


def moment_when_free(
    report: MeterReport, own: datetime, subscriptions: Iterable[PlanSubscription]
) -> datetime:
    """Return the last moment up to `own` at which no subscription counts what was used on the free plan.

    A subscription counts from its start on, and gives nothing until its first payment, for which it waits for up to a
    day. What is charged to the free plan's period meanwhile would be on its first invoice. Where a subscription gave
    access when the report's period began, that one sold what was used in it: then it is `own`.
    """
    counting = [each for each in subscriptions if each.status != "incomplete_expired"]
    start = report.period_start
    if any(each.has_begun and each.is_on(start) and not began_waiting(each, start) for each in counting):
        return own
    moment = own
    while starts := [each.begins for each in counting if each.is_on(moment)]:
        moment = min(starts) - SECOND
    return moment


def began_waiting(subscription: PlanSubscription, start: datetime) -> bool:
    """Whether a month of the free plan began at `start`, while the subscription waited for its first payment.

    False where it cannot be told from one of the subscription's own.
    """
    waits_until = subscription.begins + FIRST_PAYMENT_WITHIN
    if not subscription.begins < start < waits_until or start != calendar_month(start).start:
        return False
    anchor = from_timestamp(subscription.data["billing_cycle_anchor"])
    if anchored_month(min(anchor, start), start).start == start:
        return False
    first = djstripe.Invoice.objects.filter(
        stripe_data__parent__subscription_details__subscription=subscription.id,
        stripe_data__billing_reason="subscription_create",
    )
    paid = first.values_list("stripe_data__status_transitions__paid_at", flat=True)
    return any(each and start < from_timestamp(each) for each in paid)


def was_sold(report: MeterReport, subscription: PlanSubscription, *, before: datetime) -> bool:
    """Whether the subscription had the meter before a moment, also by an item that is gone since.

    What another one sold, which ended before, is on that one's invoices.
    """
    items = djstripe.SubscriptionItem.objects.filter(
        subscription__id=subscription.id,
        stripe_data__price__recurring__meter=report.meter.stripe_meter_id,
    )
    created = items.values_list("stripe_data__created", flat=True)
    return any(from_timestamp(each) < before for each in created)


def is_before(report: MeterReport, end: datetime, subscription: PlanSubscription) -> bool:
    """Whether the report's quota period is the one that ended at `end`."""
    return report.period_start < end and subscription.period_at(report.period_start).end == end


def still_open(
    report: MeterReport, own: datetime, *, end: datetime, subscription: PlanSubscription
) -> datetime | None:
    """Return the first moment from `own` on that no invoice has closed and one to come holds, None where none is.

    Only a period that a change of price cut has one: of any other, `own` is closed up to the `end` or not at all.
    """
    periods = invoiced_periods(report.organization, report.meter, since=own)
    moment = own
    closed = [each for each in periods if isinstance(each, ClosedPeriod)]
    while over := [each.end for each in closed if each.holds(moment)]:
        moment = max(over)
    if moment >= end:
        return None
    sold_since = [
        from_timestamp(item["created"])
        for item in subscription.items
        if item["price"]["recurring"].get("meter") == report.meter.stripe_meter_id
    ]
    is_sold = any(each <= moment for each in sold_since)
    # The plan that has begun since may bill none of it: the draft of what was before does.
    is_drafted = any(each.finalized_at is None and each.holds(moment) for each in periods)
    return moment if is_sold or is_drafted else None
