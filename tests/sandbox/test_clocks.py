"""Test clocks through the API: how far they go at once, what they say on the way, and in which order things happen."""

from typing import Any

import pytest
import stripe

from sandbox import Sandbox
from sandbox.agenda import rank_of
from tests.sandbox.helpers import Shop
from tests.sandbox.worked.life import DAY, HOUR, Life, at


@pytest.fixture
def life(client: stripe.StripeClient) -> Life:
    return Life(client, start="2026-04-01")


def advance(life: Life, to: str | int) -> Any:
    target = at(to) if isinstance(to, str) else to
    return life.api.test_helpers.test_clocks.advance(life.clock.id, {"frozen_time": target})


def test_a_clock_goes_at_most_two_of_the_shortest_intervals_ahead(life: Life) -> None:
    life.subscribe(life.price(interval="year"))
    life.subscribe(life.price())
    with pytest.raises(stripe.InvalidRequestError, match="two intervals") as refused:
        advance(life, at("2026-06-01") + 1)
    assert (refused.value.http_status, refused.value.param) == (400, "frozen_time")
    advance(life, "2026-06-01")
    assert life.api.test_helpers.test_clocks.retrieve(life.clock.id).frozen_time == at("2026-06-01")


def test_a_clock_without_subscriptions_goes_as_far_as_it_is_sent(life: Life) -> None:
    advance(life, "2030-01-01")
    assert life.api.test_helpers.test_clocks.retrieve(life.clock.id).frozen_time == at("2030-01-01")


def test_a_clock_is_advancing_first_and_then_ready(life: Life) -> None:
    moving = advance(life, "2026-04-02")
    assert (moving.status, moving.frozen_time) == ("advancing", at("2026-04-01"))
    assert moving.status_details.advancing.target_frozen_time == at("2026-04-02")
    arrived = life.api.test_helpers.test_clocks.retrieve(life.clock.id)
    assert (arrived.status, arrived.frozen_time) == ("ready", at("2026-04-02"))
    told = [each.type for each in life.api.events.list({"limit": 3}).data if "test_clock" in each.type]
    assert told == ["test_helpers.test_clock.ready", "test_helpers.test_clock.advancing"]


def test_a_clock_never_goes_back(life: Life) -> None:
    for moment in ("2026-04-01", "2026-03-01"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            advance(life, moment)
        assert refused.value.param == "frozen_time"


def test_customers_of_two_clocks_do_not_meet_in_one_request(client: stripe.StripeClient, life: Life) -> None:
    other = Life(client, start="2027-01-01", card=None)
    method = life.api.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    life.api.payment_methods.attach(method.id, {"customer": life.customer.id})
    with pytest.raises(stripe.InvalidRequestError, match="different test clocks"):
        life.api.invoice_items.create(
            {
                "customer": other.customer.id,
                "subscription": life.subscribe(life.price()).id,
                "amount": 1,
                "currency": "usd",
            }
        )


def test_a_deleted_clock_takes_its_customers_along(life: Life) -> None:
    subscription = life.subscribe(life.price())
    assert life.api.test_helpers.test_clocks.delete(life.clock.id).deleted
    assert life.api.customers.retrieve(life.customer.id).deleted
    assert life.api.subscriptions.retrieve(subscription.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.test_helpers.test_clocks.retrieve(life.clock.id)
    assert refused.value.http_status == 404


def test_an_invoice_is_finalized_before_another_is_tried_again() -> None:
    order = ("trial_end", "period_end")
    names = [*(f"subscription.{each}" for each in order), "invoice.finalize", "invoice.retry"]
    ranks = [rank_of(each) for each in (*names, "subscription.cancel", "checkout.session.expire")]
    assert ranks == sorted(set(ranks))


def test_what_falls_on_one_second_happens_in_stripes_order(sandbox: Sandbox, shop: Shop) -> None:
    """A trial ends, a period is renewed, a subscription is cancelled and a session expires, all at once."""
    sandbox.set_clock(frozen_at=at("2026-04-01"))
    renewed = shop.subscription(shop.payer(), shop.price())
    moment = at("2026-05-01")
    cancelled = shop.subscription(shop.payer(), shop.price(), cancel_at=moment)
    sandbox.set_clock(advance=29 * DAY + 12 * HOUR)
    session = shop.checkout(expires_at=moment)
    trial = shop.subscription(shop.payer(), shop.price(), trial_end=moment)
    sandbox.set_clock(frozen_at=moment)

    told = [
        (each.type, each.data["object"]["id"])
        for each in shop.api.events.list({"created": {"gte": moment}, "limit": 100}).data[::-1]
    ]
    firsts = [
        ("customer.subscription.updated", trial.id),
        ("customer.subscription.updated", renewed.id),
        ("customer.subscription.deleted", cancelled.id),
        ("checkout.session.expired", session.id),
    ]
    places = [told.index(each) for each in firsts]
    assert places == sorted(places), [told[place] for place in places]
    drafts = shop.api.invoices.list({"status": "draft", "created": {"gte": moment}}).data
    assert {each.parent.subscription_details.subscription for each in drafts} >= {trial.id, renewed.id}
    sandbox.set_clock(advance=HOUR)
    assert {shop.api.invoices.retrieve(each.id).status for each in drafts} == {"paid"}
