"""Workers moving subscribers: each once, whoever fails, wherever they are cut off."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.utils import timezone
from djstripe import models as djstripe

from accounts import clock
from accounts.models import Organization
from billing.errors import StripeUnavailable
from billing.models import SubscriberMove
from billing.moves import go_on, order_move
from billing.stripe.client import get_client
from billing.tasks import begin_price_move, continue_price_moves, move_subscriber
from tests.billing.cast import subscribe
from tests.billing.catalogue import bill_overage, fee_of, raise_fee, subscribe_at_stripe
from tests.billing.faults import every_fault
from tests.billing.test_moving import billed, move, only_row, prices_of

pytestmark = [pytest.mark.django_db, pytest.mark.long]

State = SubscriberMove.State


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


@pytest.mark.exhaustive
def test_a_move_cut_off_anywhere_is_completed_by_the_next_try(sandbox, organization, plans):
    # Prorating goes by the second: each play has to come to the same amounts.
    sandbox.set_clock(frozen_at=timezone.now())
    ids = []

    def prepare():
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

    def look():
        assert SubscriberMove.objects.get(pk=ids[0]).state == State.MOVED
        wanted = {price.stripe_price_id for price in plans.pro.offered_prices()}
        assert prices_of(sandbox, ids[1]) == wanted
        mirrored = djstripe.Subscription.objects.get(id=ids[1]).stripe_data["items"]["data"]
        assert {item["price"]["id"] for item in mirrored} == wanted
        assert billed(sandbox) == [2900]
        assert len(mirrored) == 2

    calls = every_fault(
        sandbox,
        prepare=prepare,
        flow=lambda: go_on(SubscriberMove.objects.get(pk=ids[0])),
        look=look,
        kinds=("rate_limit", "server_error_after", "timeout_after"),
    )

    assert len(calls) >= 3


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
