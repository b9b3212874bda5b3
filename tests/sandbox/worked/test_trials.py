"""Trials: nothing to pay at first, a word three days before the end, then the first paid period."""

from collections.abc import Callable

from tests.sandbox.worked.life import DAY, Life, amounts, at, period


def test_a_trial_ends_in_a_paid_month(life: Life) -> None:
    # 14 days from 1 April end on 15 April; the first paid month runs from 15 April to 15 May.
    subscription = life.subscribe(life.price(4900), trial_period_days=14)
    assert (subscription.status, subscription.trial_end) == ("trialing", at("2026-04-15"))
    assert life.totals() == [0]
    assert life.last().status == "paid"

    life.advance("2026-04-15")
    assert life.again(subscription).status == "active"
    assert (life.last().status, life.last().billing_reason) == ("draft", "subscription_cycle")
    life.advance("2026-04-15T01:00:00")
    assert (life.last().status, life.last().amount_paid) == ("paid", 4900)
    assert period(life.again(subscription)) == ("2026-04-15", "2026-05-15")
    life.advance("2026-05-15T01:00:00")
    assert life.totals() == [0, 4900, 4900]


def test_the_end_of_a_trial_is_announced_three_days_before(life: Life) -> None:
    subscription = life.subscribe(life.price(), trial_period_days=14)
    life.advance("2026-04-11T23:59:59")
    assert life.events("customer.subscription.trial_will_end") == []

    life.advance("2026-04-12")
    [event] = life.events("customer.subscription.trial_will_end")
    assert (event.data.object["id"], event.created) == (subscription.id, at("2026-04-15") - 3 * DAY)


def test_a_trial_shorter_than_three_days_is_announced_at_once(life: Life) -> None:
    life.subscribe(life.price(), trial_period_days=2)
    assert len(life.events("customer.subscription.trial_will_end")) == 1


def test_a_trial_cut_short_bills_from_that_moment(life: Life) -> None:
    # Cut short on 6 April: a month from 6 April to 6 May at its full price.
    subscription = life.subscribe(life.price(4900), trial_period_days=14)
    life.advance("2026-04-06")
    changed = life.api.subscriptions.update(subscription.id, {"trial_end": "now"})

    assert changed.status == "active"
    assert period(changed) == ("2026-04-06", "2026-05-06")
    assert life.totals() == [0, 4900]
    life.advance("2026-04-20")
    assert life.totals() == [0, 4900]


def test_a_trial_without_a_card_ends_as_the_seller_chose(begin: Callable[..., Life]) -> None:
    outcomes = {}
    for choice in ("cancel", "pause", "create_invoice"):
        life = begin(card=None)
        subscription = life.subscribe(
            life.price(4900),
            trial_period_days=7,
            trial_settings={"end_behavior": {"missing_payment_method": choice}},
        )
        life.advance("2026-04-08T02:00:00")
        outcomes[choice] = (life.again(subscription).status, sum(life.totals()))

    # An invoice that nobody can pay leaves the subscription past due; the other two bill nothing.
    assert outcomes == {
        "cancel": ("canceled", 0),
        "pause": ("paused", 0),
        "create_invoice": ("past_due", 4900),
    }


def test_a_change_of_price_during_a_trial_costs_nothing(life: Life) -> None:
    subscription = life.subscribe(life.price(4900), trial_period_days=14)
    life.advance("2026-04-08")
    life.change(subscription, life.price(9900))
    life.advance("2026-04-15T01:00:00")

    # Nothing was paid for the trial, so nothing is credited or charged for its rest: only the 99.00 after it.
    assert sum(life.totals()) == 9900
    assert [each for each in amounts(life.last()) if each] == [9900]


def test_a_change_to_a_yearly_price_during_a_trial_keeps_the_trial(life: Life) -> None:
    # Free until 15 April, then 300.00 for the year.
    subscription = life.subscribe(life.price(4900), trial_period_days=14)
    life.advance("2026-04-08")
    changed = life.change(subscription, life.price(30_000, interval="year"))
    assert (changed.status, changed.trial_end) == ("trialing", at("2026-04-15"))
    assert sum(life.totals()) == 0
    life.advance("2026-04-15T01:00:00")

    assert sum(life.totals()) == 30_000
    assert period(life.again(subscription)) == ("2026-04-15", "2027-04-15")
