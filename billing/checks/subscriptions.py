from collections import Counter
from collections.abc import Iterator
from functools import partial
from uuid import UUID

from djstripe import models as djstripe

from accounts.models import Organization
from billing.checks.mending import by_reconciling
from billing.doctor import Finding, Fix, Severity, check
from billing.models import PlanPrice
from billing.stripe.duplicates import cancel_never_paid
from billing.stripe.listing import Listed, find_subscription_status, list_subscriptions
from billing.subscriptions import LIVE, PlanSubscription, plan_subscriptions


@check("subscription-status", "Subscriptions whose status here is not the one at Stripe.")
def differing_statuses() -> Iterator[Finding]:
    """Lists what Stripe has, a hundred to a call, and asks for single ones only where the two differ."""
    listed = list_subscriptions()
    # Read afterwards: what a webhook changes meanwhile is newer here than there.
    held = djstripe.Subscription.objects.filter(customer__subscriber__isnull=False)
    rows = held.values_list("id", "stripe_data__status", "customer__subscriber")
    known = set()
    for subscription_id, status, organization_id in rows.iterator(chunk_size=1000):
        known.add(subscription_id)
        if subscription_id in listed:
            there: str | None = listed[subscription_id].status
        elif status in LIVE:
            # Ended, or on a test clock, whose subscriptions are not listed.
            there = find_subscription_status(subscription_id)
        else:
            continue
        if there != status:
            yield differing(organization_id, subscription_id, here=words(status), there=words(there))
    yield from unknown_here([each for each in listed.values() if each.id not in known])


def words(status: str | None) -> str:
    return status.replace("_", " ") if status else "unknown"


def unknown_here(listed: list[Listed]) -> Iterator[Finding]:
    customers = djstripe.Customer.objects.filter(
        id__in={each.customer_id for each in listed}, subscriber__isnull=False
    )
    owners = dict(customers.values_list("id", "subscriber_id"))
    for each in listed:
        if each.customer_id in owners:
            yield differing(owners[each.customer_id], each.id, here="unknown", there=words(each.status))


def differing(organization_id: UUID, subscription_id: str, *, here: str, there: str) -> Finding:
    organization = Organization.objects.get(pk=organization_id)
    return Finding(
        slug="subscription-status",
        severity=Severity.ERROR,
        subject=subscription_id,
        sentence=f"{organization}: subscription {subscription_id} is {here} here and {there} at Stripe.",
        fix=by_reconciling(organization),
        organization=organization,
    )


@check("two-subscriptions", "Organizations that pay for two plans at once.")
def two_subscriptions() -> Iterator[Finding]:
    for organization, live in with_several_live():
        begun = [each for each in live if each.has_begun]
        names = "; ".join(f"{each.id} to {each.plan}, {words(each.status)}" for each in live)
        fix, advice = None, ""
        if len(begun) < len(live) and begun:
            fix = Fix(
                "Cancel what was never paid for.",
                partial(cancel_never_paid, organization),
            )
        if len(begun) > 1:
            advice = (
                "Ask the customer which one to keep, cancel the others at Stripe and refund what was paid "
                "for them: which one was meant cannot be known here."
            )
        elif not begun:
            advice = "Neither was paid for: Stripe ends each by itself within a day of its creation."
        yield Finding(
            slug="two-subscriptions",
            severity=Severity.ERROR,
            subject=organization.ref,
            sentence=f"{organization} has {len(live)} live subscriptions: {names}.",
            advice=advice,
            fix=fix,
            organization=organization,
        )


def with_several_live() -> Iterator[tuple[Organization, list[PlanSubscription]]]:
    live = djstripe.Subscription.objects.filter(
        customer__subscriber__isnull=False, stripe_data__status__in=LIVE
    )
    count = Counter(live.values_list("customer__subscriber", flat=True))
    several = [pk for pk, number in count.items() if number > 1]
    for organization in Organization.objects.filter(pk__in=several):
        to_plans = [each for each in plan_subscriptions(organization) if each.is_live]
        if len(to_plans) > 1:  # What it has beside our plans is no business of ours.
            yield organization, to_plans


@check(
    "unbilled-meters", "Subscriptions that lack a metered item of their plan: that usage is on no invoice."
)
def unbilled_meters() -> Iterator[Finding]:
    metered = PlanPrice.objects.filter(meter__isnull=False, stripe_price__isnull=False).select_related(
        "meter"
    )
    prices: dict[tuple[int, str], list[PlanPrice]] = {}
    for price in metered:
        prices.setdefault((price.plan_id, price.currency), []).append(price)
    for organization in with_live():
        for subscription in plan_subscriptions(organization):
            offered = prices.get((subscription.plan.pk, subscription.currency), [])
            billed = {item["price"]["recurring"].get("meter") for item in subscription.items}
            missing = [p.meter.name for p in offered if p.meter and p.meter.stripe_meter_id not in billed]
            if subscription.is_live and missing:
                yield unbilled(organization, subscription, missing)


def with_live() -> Iterator[Organization]:
    live = djstripe.Subscription.objects.filter(stripe_data__status__in=LIVE)
    owners = live.filter(customer__subscriber__isnull=False).values("customer__subscriber")
    yield from Organization.objects.filter(pk__in=owners).iterator(chunk_size=500)


def unbilled(organization: Organization, subscription: PlanSubscription, missing: list[str]) -> Finding:
    names = " and ".join(missing)
    return Finding(
        slug="unbilled-meters",
        severity=Severity.WARNING,
        subject=subscription.id,
        sentence=f"{organization}: subscription {subscription.id} to {subscription.plan} does not bill {names}.",
        advice="Move the subscriber to the plan's current prices: it changes what is billed, so you decide.",
        organization=organization,
    )
