"""Moving subscribers from older prices to current ones: at each one's renewal, to the cent, whatever goes wrong."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.entitlements import current_entitlement, refresh_entitlement
from billing.errors import NotPublished, StripeUnavailable
from billing.models import Meter, Plan, PriceMove, SubscriberMove
from billing.moves import go_on, older_prices, order_move, stalled
from billing.stripe.catalog import publish
from billing.stripe.client import get_client
from billing.stripe.customers import ensure_customer
from billing.stripe.subscriptions import sync_subscriptions
from billing.tasks import begin_price_move, continue_price_moves, move_subscriber
from tests.billing.cast import subscribe
from tests.billing.test_publishing import bill_overage, fee_of, overage_of, set_fee
from tests.billing.trouble import KINDS, fail_at_every_call

pytestmark = pytest.mark.django_db

State = SubscriberMove.State
DAY = 86_400


def subscribe_at_stripe(organization: Organization, *price_ids: str, **params) -> str:
    """Subscribe an organization to prices directly, and copy that into the mirror; return the subscription's id."""
    client = get_client().v1
    customer = ensure_customer(organization).id
    method = client.payment_methods.attach("pm_card_visa", {"customer": customer}).id
    items = [{"price": price_id} for price_id in price_ids]
    created = client.subscriptions.create(
        {"customer": customer, "items": items, "default_payment_method": method, **params}
    )
    sync_subscriptions(customer)
    return created.id


def use(organization: Organization, units: int) -> None:
    """Report usage to Stripe, a minute ago."""
    get_client().v1.billing.meter_events.create(
        {
            "event_name": "tollgate_requests",
            "payload": {"stripe_customer_id": ensure_customer(organization).id, "value": str(units)},
        }
    )


def raise_fee(plan: Plan, amount: int = 3900) -> None:
    set_fee(plan, amount)
    publish([plan])


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


# Who is on what


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


# The fee


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


# What is metered


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


# Who is left as they are


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


# Ordering


def test_ordering_twice_orders_once(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)

    assert order_move(plans.pro, author=None) is not None
    assert order_move(plans.pro, author=None) is None
    assert SubscriberMove.objects.count() == 1


def test_who_failed_is_tried_again_by_the_next_order(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    get_client().v1.prices.update(fee_of(plans.pro).stripe_price_id, {"active": False})
    failed = only_row(move(plans.pro))
    get_client().v1.prices.update(fee_of(plans.pro).stripe_price_id, {"active": True})

    again = only_row(move(plans.pro))

    assert failed.state == State.FAILED
    assert failed.detail.startswith("Stripe refused: The price specified is inactive.")
    assert again.state == State.MOVED


def test_one_organization_s_failure_does_not_keep_the_others(
    sandbox, organization, owner, plans, monkeypatch
):
    monkeypatch.setattr("billing.stripe.client.RETRIES", 0)
    get_client.cache_clear()
    first = subscribe(sandbox, organization, plan=plans.pro)
    second = subscribe_at_stripe(
        Organization.objects.open(name="Second", owner=owner),
        *(price.stripe_price_id for price in plans.pro.offered_prices()),
    )
    raise_fee(plans.pro)
    ordered = order_move(plans.pro, author=None)
    sandbox.faults.add("server_error", method="POST", path=f"/v1/subscriptions/{first.id}")

    def work(row_id: int) -> None:
        with suppress(StripeUnavailable):
            move_subscriber(row_id)

    monkeypatch.setattr(move_subscriber, "delay", work)
    begin_price_move(ordered.pk)

    states = {row.subscription_id: row.state for row in ordered.rows.all()}
    assert states == {first.id: State.PENDING, second: State.MOVED}
    sandbox.faults.clear()
    begin_price_move(ordered.pk)
    assert ordered.rows.filter(state=State.MOVED).count() == 2


# Workers


def test_the_task_hands_out_each_subscriber(sandbox, organization, plans, monkeypatch):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    ordered = order_move(plans.pro, author=None)
    handed_out = []
    monkeypatch.setattr(move_subscriber, "delay", handed_out.append)

    begin_price_move(ordered.pk)

    assert handed_out == [only_row(ordered).pk]


def test_the_sweep_finds_what_a_lost_task_left_behind(sandbox, organization, plans, monkeypatch):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    row = only_row(order_move(plans.pro, author=None))
    handed_out = []
    monkeypatch.setattr(move_subscriber, "delay", handed_out.append)

    continue_price_moves()
    with clock.standing_at(clock.now() + timedelta(minutes=6)):
        continue_price_moves()

    assert handed_out == [row.pk]


def test_a_subscriber_that_is_moved_is_left_alone_by_a_task_that_comes_late(sandbox, organization, plans):
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    row = only_row(move(plans.pro))
    before = len(sandbox.requests)

    move_subscriber(row.pk)

    assert len(sandbox.requests) == before


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_move_a_subscriber_once(sandbox, organization, plans):
    subscription = subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    row = only_row(order_move(plans.pro, author=None))

    def work() -> None:
        try:
            move_subscriber(row.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as workers:
        for outcome in [workers.submit(work) for _ in range(4)]:
            outcome.result()

    path = f"/v1/subscriptions/{subscription.id}"
    assert sum((request.method, request.path) == ("POST", path) for request in sandbox.requests) == 1
    row.refresh_from_db()
    assert row.state == State.MOVED


# Stripe going wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_move_cut_off_anywhere_is_completed_by_the_next_try(kind, organization, plans, monkeypatch):
    ids = []

    def prepare(sandbox):
        bill_overage(plans.pro, (None, "0.2"))
        subscribed = subscribe(sandbox, organization, plan=plans.pro)
        bill_overage(plans.pro, (None, "0.4"))
        raise_fee(plans.pro)
        ordered = order_move(plans.pro, author=None)
        row = only_row(ordered)
        # As if its month had just turned.
        row.not_before = datetime.fromtimestamp(
            subscribed.stripe_data["items"]["data"][0]["current_period_start"], UTC
        )
        row.save()
        ids[:] = [row.pk, subscribed.id]

    def check(sandbox):
        assert SubscriberMove.objects.get(pk=ids[0]).state == State.MOVED
        wanted = {price.stripe_price_id for price in plans.pro.offered_prices()}
        assert prices_of(sandbox, ids[1]) == wanted
        mirrored = djstripe.Subscription.objects.get(id=ids[1]).stripe_data["items"]["data"]
        assert {item["price"]["id"] for item in mirrored} == wanted
        assert billed(sandbox) == [2900]
        assert len(mirrored) == 2

    tried = fail_at_every_call(
        kind,
        monkeypatch=monkeypatch,
        prepare=prepare,
        flow=lambda sandbox: go_on(SubscriberMove.objects.get(pk=ids[0])),
        check=check,
    )
    assert tried >= 3


def test_while_stripe_cannot_be_reached_the_row_says_so_and_stays(sandbox, organization, plans, monkeypatch):
    monkeypatch.setattr("billing.stripe.client.RETRIES", 0)
    get_client.cache_clear()
    subscribe(sandbox, organization, plan=plans.pro)
    raise_fee(plans.pro)
    row = only_row(order_move(plans.pro, author=None))
    sandbox.faults.add("server_error", times=1)

    with pytest.raises(StripeUnavailable):
        move_subscriber(row.pk)

    row.refresh_from_db()
    assert (row.state, row.detail) == (
        State.PENDING,
        "Stripe could not be reached: it is tried again by itself.",
    )
