"""Moving subscribers to the current prices of their plan: who is to be, and how far each is."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import transaction
from djstripe import models as djstripe

from accounts import clock
from accounts.models import User
from billing.errors import NotPublished, StripeRejected, StripeUnavailable
from billing.models import Plan, PlanPrice, PriceMove, PublishedPrice, SubscriberMove
from billing.stripe.moving import move_subscription
from billing.subscribers import Subscriber, meter_keys, replacements, subscribers_of
from billing.subscriptions import PlanSubscription
from billing.terms import describe, read_terms

PATIENCE = timedelta(minutes=5)  # Until then a row that is due is in somebody's hands.


@dataclass
class OlderPrice:
    """A price that subscribers are on still. `current` is what takes its place, None where nothing does."""

    price_id: str
    terms: str
    current: str | None
    subscribers: list[Subscriber] = field(default_factory=list)


def older_prices(plan: Plan) -> list[OlderPrice]:
    """Return the plan's older prices with who is on them, the most used first."""
    meters = meter_keys()
    offers: dict[tuple[str, str], list[PlanPrice]] = {}
    found: dict[str, OlderPrice] = {}
    for subscriber in subscribers_of(plan):
        subscription = subscriber.subscription
        offer = (subscription.interval, subscription.currency)
        if offer not in offers:
            offers[offer] = plan.offered_prices(interval=offer[0], currency=offer[1])
        for price_id, price in older_items(subscription, offers[offer], meters=meters):
            name = price_id or f"no price yet for {price.meter if price else ''}"
            if name not in found:
                current = say_row(price) if price else None
                found[name] = OlderPrice(price_id, say_price(price_id) if price_id else name, current)
            found[name].subscribers.append(subscriber)
    return sorted(found.values(), key=lambda older: (-len(older.subscribers), older.terms))


def older_items(
    subscription: PlanSubscription, prices: list[PlanPrice], *, meters: dict[str, int]
) -> list[tuple[str, PlanPrice | None]]:
    """Return the ids of the older prices that a subscription has, each with what takes its place."""
    if not prices:
        # Its interval or currency is sold no more.
        return [(subscription.fee_item["price"]["id"], None)]
    return [
        (each.old_price_id or "", each.price) for each in replacements(subscription, prices, meters=meters)
    ]


def say_row(price: PlanPrice) -> str:
    return describe(price.terms(), unit=price.meter.unit if price.meter else "unit")


def say_price(price_id: str) -> str:
    """Return a price of the past in words, its id where nobody knows any more what it charged."""
    published = PublishedPrice.objects.filter(stripe_price_id=price_id).select_related("meter").first()
    if published and published.terms:
        return describe(published.terms, unit=published.meter.unit if published.meter else "unit")
    data = djstripe.Price.objects.filter(id=price_id).values_list("stripe_data", flat=True).first()
    terms = read_terms(data, meters={}) if data else None
    return describe(terms) if terms else price_id


@transaction.atomic
def order_move(plan: Plan, *, from_price_id: str = "", author: User | None) -> PriceMove | None:
    """Note which subscribers are to be moved, and have a worker begin; None where there is nobody to move.

    Who is being moved already is left out, so that asking twice orders once. Raises NotPublished while the
    plan has a price that Stripe does not sell yet.
    """
    Plan.objects.select_for_update().get(pk=plan.pk)
    if any(not price.is_published for price in plan.prices.select_related("plan", "meter")):
        raise NotPublished(f"{plan} has prices that are not published yet: publish them first.")
    busy = set(SubscriberMove.objects.unfinished().values_list("subscription_id", flat=True))
    wanted: defaultdict[str, list[Subscriber]] = defaultdict(list)
    for older in older_prices(plan):
        if older.current and from_price_id in {"", older.price_id}:
            for subscriber in older.subscribers:
                wanted[subscriber.subscription.id].append(subscriber)
    rows = {identifier: each[0] for identifier, each in wanted.items() if identifier not in busy}
    if not rows:
        return None
    move = PriceMove.objects.create(plan=plan, from_price_id=from_price_id, author=author)
    SubscriberMove.objects.bulk_create(
        SubscriberMove(move=move, organization=each.organization, subscription_id=identifier)
        for identifier, each in rows.items()
    )
    return move


def go_on(row: SubscriberMove) -> None:
    """Take the next step with one subscriber, and note what came of it.

    Raises StripeUnavailable where it is to be repeated. What Stripe refuses for good is noted as failed.
    """
    try:
        step = move_subscription(
            row.organization,
            subscription_id=row.subscription_id,
            plan=row.move.plan,
            not_before=row.not_before,
        )
    except StripeUnavailable:
        note(row, row.State(row.state), "Stripe could not be reached: it is tried again by itself.")
        raise
    except StripeRejected as error:
        note(row, SubscriberMove.State.FAILED, f"Stripe refused: {error}")
    except Exception:
        note(row, SubscriberMove.State.FAILED, "It failed for a reason of Tollgate's own, which its log has.")
        raise
    else:
        row.not_before = step.not_before
        note(row, step.state, step.detail)


def note(row: SubscriberMove, state: SubscriberMove.State, detail: str) -> None:
    row.state, row.detail, row.changed_at = state, detail[:500], clock.now()
    row.save(update_fields=["state", "detail", "not_before", "changed_at"])


def stalled() -> list[int]:
    """Return the keys of rows that can be gone on with and that nobody has touched for a while."""
    due = SubscriberMove.objects.due().filter(changed_at__lte=clock.now() - PATIENCE)
    return list(due.order_by("changed_at").values_list("pk", flat=True)[:500])
