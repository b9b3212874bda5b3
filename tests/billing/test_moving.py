"""Moving subscribers from older prices to current ones: at each one's renewal, to the cent, whatever goes wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import clock
from accounts.models import Organization
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.errors import NotPublished
from billing.models import Meter, Plan, PriceMove, SubscriberMove
from billing.moves import go_on, older_prices, order_move, stalled
from billing.stripe.catalog import publish
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.tasks import move_subscriber
from tests.billing.cast import subscribe
from tests.billing.catalogue import bill_overage, fee_of, overage_of, raise_fee, set_fee, subscribe_at_stripe

pytestmark = pytest.mark.django_db

State = SubscriberMove.State


def use(organization: Organization, units: int) -> None:
    """Report usage to Stripe, a minute ago."""
    get_client().v1.billing.meter_events.create(
        {
            "event_name": "tollgate_requests",
            "payload": {"stripe_customer_id": ensure_customer(organization).id, "value": str(units)},
        }
    )


def move(plan: Plan, *, from_price_id: str = "") -> PriceMove:
    """Order a move, and let each subscriber's first step be taken."""
    ordered = order_move(plan, from_price_id=from_price_id, author=None)
    assert ordered is not None
    for row in ordered.rows.all():
        go_on(row)
    return ordered


def only_row(ordered: PriceMove) -> SubscriberMove:
    return ordered.rows.get()


def at(sandbox, **passing: float) -> None:
    sandbox.set_clock(advance=int(timedelta(**passing).total_seconds()))


def now_at(sandbox):
    """The process's clock, at the sandbox's time."""
    return clock.standing_at(datetime.fromtimestamp(sandbox.now(), UTC))


def prices_of(sandbox, subscription_id: str) -> set[str]:
    return {item.price.id for item in get_client().v1.subscriptions.retrieve(subscription_id)["items"].data}


def billed(sandbox) -> list[int]:
    """What each finalized invoice came to, the first one first."""
    rows = sorted(sandbox.every("invoice"), key=lambda invoice: invoice["created"])
    return [invoice["total"] for invoice in rows if invoice["status"] != "draft"]


def lines(sandbox) -> list[tuple[int, int]]:
    """Quantity and amount of the newest invoice's lines."""
    invoice = max(sandbox.every("invoice"), key=lambda invoice: invoice["created"])
    listed = get_client().v1.invoices.retrieve(invoice["id"]).lines.data
    return sorted((line.quantity or 0, line.amount) for line in listed)


@pytest.fixture
def frozen(sandbox):
    """Stripe's clock stands at the first of a month."""
    sandbox.set_clock(frozen_at=int(datetime(2026, 9, 1, 12, tzinfo=UTC).timestamp()))
    with now_at(sandbox):
        yield sandbox


def test_older_prices_are_listed_with_who_is_on_them(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)

    (older,) = older_prices(plans.pro)

    assert (older.terms, older.current) == ("$29 a month", "$39 a month")
    assert [each.organization for each in older.subscribers] == [organization]


def test_nobody_is_listed_before_a_new_price_is_published(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    set_fee(plans.pro, 3900)

    assert older_prices(plans.pro) == []
    with pytest.raises(NotPublished):
        order_move(plans.pro, author=None)


def test_more_subscribers_take_no_more_queries(sandbox, organization, owner, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    offered = [price.stripe_price_id for price in plans.pro.offered_prices()]
    raise_fee(plans.pro)
    with CaptureQueriesContext(connection) as few:
        older_prices(plans.pro)
    for name in ("Second", "Third", "Fourth"):
        subscribe_at_stripe(Organization.objects.open(name=name, owner=owner), *offered)

    with CaptureQueriesContext(connection) as many:
        (older,) = older_prices(plans.pro)

    assert len(older.subscribers) == 4
    assert len(many) == len(few)


def test_who_has_no_subscription_any_more_is_not_listed(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    get_client().v1.subscriptions.cancel(subscription.id)
    sync_subscriptions(subscription.customer.id)
    raise_fee(plans.pro)

    assert older_prices(plans.pro) == []


def test_the_new_fee_is_charged_from_the_next_renewal_on(frozen, organization, plans):
    subscribe(frozen, organization, plan=plans.pro)
    raise_fee(plans.pro)
    at(frozen, days=10)

    ordered = move(plans.pro)

    assert only_row(ordered).state == State.MOVED
    assert billed(frozen) == [2900]
    at(frozen, days=21)
    assert billed(frozen) == [2900, 3900]
    assert older_prices(plans.pro) == []


def test_a_yearly_fee_moves_at_the_year_s_end(frozen, organization, plans):
    yearly = plans.pro.prices.create(interval="year", unit_amount=29_000)
    publish([plans.pro])
    yearly.refresh_from_db()
    subscribe_at_stripe(organization, yearly.stripe_price_id, overage_of(plans.pro).stripe_price_id)
    yearly.unit_amount = 35_000
    yearly.save()
    publish([plans.pro])
    at(frozen, days=40)

    ordered = move(plans.pro)

    assert only_row(ordered).state == State.MOVED
    at(frozen, days=330)
    assert [total for total in billed(frozen) if total] == [29_000, 35_000]


def test_a_lower_fee_gives_nothing_back(frozen, organization, plans):
    subscribe(frozen, organization, plan=plans.pro)
    raise_fee(plans.pro, 1900)
    at(frozen, days=10)

    move(plans.pro)
    at(frozen, days=21)

    assert billed(frozen) == [2900, 1900]


def test_the_subscriber_keeps_plan_and_quota(frozen, organization, plans):
    subscribe(frozen, organization, plan=plans.pro)
    raise_fee(plans.pro)
    before = refresh_entitlement(organization)

    move(plans.pro)

    after = current_entitlement(organization)
    assert (after.plan, after.period_start, after.quotas) == (plans.pro, before.period_start, before.quotas)


def test_only_those_of_the_chosen_older_price_are_moved(sandbox, organization, owner, plans):
    first = subscribe(sandbox, organization, plan=plans.pro)
    oldest = fee_of(plans.pro).stripe_price_id
    raise_fee(plans.pro, 3900)
    second = Organization.objects.open(name="Second", owner=owner)
    later = subscribe_at_stripe(
        second, fee_of(plans.pro).stripe_price_id, overage_of(plans.pro).stripe_price_id
    )
    raise_fee(plans.pro, 4900)

    ordered = move(plans.pro, from_price_id=oldest)

    assert only_row(ordered).organization == organization
    newest = fee_of(plans.pro).stripe_price_id
    assert newest in prices_of(sandbox, first.id)
    assert newest not in prices_of(sandbox, later)


def test_a_metered_price_moves_once_its_month_has_turned_and_each_unit_is_billed_once(
    frozen, organization, plans
):
    # September: 12,000 calls, 2,000 beyond the included at $0.002 = $4. October: 2,000 at $0.004 = $8.
    bill_overage(plans.pro, (None, "0.2"))
    subscription = subscribe(frozen, organization, plan=plans.pro)
    old = overage_of(plans.pro).stripe_price_id
    use(organization, 9_000)
    at(frozen, days=10)
    bill_overage(plans.pro, (None, "0.4"))
    publish([plans.pro])

    row = only_row(move(plans.pro))

    assert row.state == State.WAITING
    assert row.detail == "The price of what is used moves when its month turns, on 1 October 2026."
    assert old in prices_of(frozen, subscription.id)
    use(organization, 3_000)
    at(frozen, days=20, minutes=2)
    use(organization, 50)
    at(frozen, minutes=1)
    with now_at(frozen):
        move_subscriber(row.pk)
    row.refresh_from_db()
    assert row.state == State.MOVED
    assert overage_of(plans.pro).stripe_price_id in prices_of(frozen, subscription.id)
    at(frozen, hours=2)
    assert lines(frozen) == [(1, 2900), (2_000, 400), (10_000, 0)]
    use(organization, 11_950)
    at(frozen, days=32)
    assert lines(frozen) == [(1, 2900), (50, 0), (1_950, 780), (10_000, 0)]


def test_fee_and_metered_price_move_by_one_order(frozen, organization, plans):
    bill_overage(plans.pro, (None, "0.2"))
    subscription = subscribe(frozen, organization, plan=plans.pro)
    bill_overage(plans.pro, (None, "0.4"))
    raise_fee(plans.pro)

    row = only_row(move(plans.pro))

    assert row.detail.startswith("The rest is moved. The price of what is used moves")
    assert fee_of(plans.pro).stripe_price_id in prices_of(frozen, subscription.id)
    at(frozen, days=30, minutes=2)
    with now_at(frozen):
        move_subscriber(row.pk)
    assert prices_of(frozen, subscription.id) == {
        price.stripe_price_id for price in plans.pro.offered_prices()
    }


def test_a_month_that_has_not_turned_yet_is_waited_for(frozen, organization, plans):
    bill_overage(plans.pro, (None, "0.2"))
    subscribe(frozen, organization, plan=plans.pro)
    bill_overage(plans.pro, (None, "0.4"))
    publish([plans.pro])
    row = only_row(move(plans.pro))
    at(frozen, days=29)

    with now_at(frozen):
        assert stalled() == []
        go_on(row)

    assert row.state == State.WAITING


def test_in_a_trial_metered_prices_move_at_once(frozen, organization, plans):
    bill_overage(plans.pro, (None, "0.2"))
    publish([plans.pro])
    subscription = subscribe_at_stripe(
        organization,
        *(price.stripe_price_id for price in plans.pro.offered_prices()),
        trial_period_days=14,
    )
    bill_overage(plans.pro, (None, "0.4"))
    raise_fee(plans.pro)

    assert only_row(move(plans.pro)).state == State.MOVED
    assert prices_of(frozen, subscription) == {price.stripe_price_id for price in plans.pro.offered_prices()}


def test_a_quota_that_the_plan_got_since_is_counted_for_those_who_move(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    tokens = Meter.objects.create(slug="tokens", name="Tokens", unit="token")
    plans.pro.quotas.create(meter=tokens, included=1_000)
    plans.pro.arrange_metered_prices()
    publish([plans.pro])

    (older,) = older_prices(plans.pro)
    move(plans.pro)

    assert older.terms == "no price yet for Tokens"
    assert plans.pro.prices.get(meter=tokens).stripe_price_id in prices_of(sandbox, subscription.id)


def schedule_downgrade(subscription_id: str, plan: Plan) -> None:
    client = get_client().v1
    schedule = client.subscription_schedules.create({"from_subscription": subscription_id})
    (running,) = schedule.phases
    now = {
        "items": [{"price": item.price} for item in running["items"]],
        "start_date": running.start_date,
        "end_date": running.end_date,
    }
    then = {
        "items": [{"price": price.stripe_price_id} for price in plan.offered_prices()],
        "duration": {"interval": "month", "interval_count": 1},
    }
    client.subscription_schedules.update(schedule.id, {"phases": [now, then]})


def test_who_has_a_downgrade_scheduled_is_left_and_named(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.team)
    schedule_downgrade(subscription.id, plans.pro)
    raise_fee(plans.team, 10_900)
    before = prices_of(sandbox, subscription.id)

    row = only_row(move(plans.team))

    assert (row.state, row.organization) == (State.SKIPPED, organization)
    assert row.detail == "A change of plan is scheduled: move it once that has come or was undone."
    assert prices_of(sandbox, subscription.id) == before


def test_who_has_changed_plans_since_is_left(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    ordered = order_move(plans.pro, author=None)
    item = get_client().v1.subscriptions.retrieve(subscription.id)["items"].data[0]
    get_client().v1.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "price": fee_of(plans.team).stripe_price_id}]}
    )

    row = only_row(ordered)
    go_on(row)

    assert (row.state, row.detail) == (State.SKIPPED, "It is on Team by now.")


def test_who_has_ended_since_is_left(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    ordered = order_move(plans.pro, author=None)
    get_client().v1.subscriptions.cancel(subscription.id)

    row = only_row(ordered)
    go_on(row)

    assert (row.state, row.detail) == (State.SKIPPED, "Its subscription has ended.")


def test_who_pays_in_a_way_that_is_sold_no_more_stays(sandbox, organization, plans):
    yearly = plans.pro.prices.create(interval="year", unit_amount=29_000)
    publish([plans.pro])
    yearly.refresh_from_db()
    subscribe_at_stripe(organization, yearly.stripe_price_id, overage_of(plans.pro).stripe_price_id)
    yearly.delete()

    (older,) = older_prices(plans.pro)

    assert (older.terms, older.current) == ("$290 a year", None)
    assert order_move(plans.pro, author=None) is None
