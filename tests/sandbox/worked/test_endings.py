"""Cancellation: now, at the end of the period, with and without money back."""

from tests.sandbox.worked.life import Life, amounts, at


def test_cancelling_now_gives_nothing_back_unless_asked(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.advance("2026-04-16")
    ended = life.api.subscriptions.cancel(subscription.id)
    life.advance("2026-06-01")

    assert (ended.status, ended.ended_at) == ("canceled", at("2026-04-16"))
    assert life.totals() == [4900]
    assert life.balance() == 0


def test_cancelling_now_with_proration_credits_the_rest(life: Life) -> None:
    # 15 of 30 days of 4900: −2450, invoiced at once and kept on the balance.
    subscription = life.subscribe(life.price(4900))
    life.advance("2026-04-16")
    life.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})

    assert life.totals() == [4900, -2450]
    assert (life.last().amount_due, life.last().status, life.balance()) == (0, "paid", -2450)


def test_cancelling_now_credits_the_rest_and_bills_the_usage(life: Life) -> None:
    # −4900/2 = −2450 and 40 × 10 = 400: −2050.
    subscription = life.subscribe(life.price(4900), life.metered_price(life.meter()))
    life.use(40)
    life.advance("2026-04-16")
    life.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})

    assert amounts(life.last()) == [-2450, 400]
    assert life.balance() == -2050


def test_cancelling_at_the_end_of_the_period_renews_no_more(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.advance("2026-04-16")
    announced = life.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (announced.status, announced.cancel_at) == ("active", at("2026-05-01"))
    life.advance("2026-04-30T23:59:59")
    assert life.again(subscription).status == "active"
    life.advance("2026-06-01")

    ended = life.again(subscription)
    assert (ended.status, ended.ended_at, ended.canceled_at) == (
        "canceled",
        at("2026-05-01"),
        at("2026-04-16"),
    )
    assert life.totals() == [4900]


def test_a_cancellation_taken_back_in_time_renews(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    life.advance("2026-04-30")
    life.api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    life.advance("2026-05-01T01:00:00")

    assert life.again(subscription).status == "active"
    assert life.totals() == [4900, 4900]


def test_a_date_to_cancel_at_in_mid_month_credits_what_lies_after_it(life: Life) -> None:
    # From 16 April, 15 of 30 days: −1500 against the 3000 paid.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-02")
    life.api.subscriptions.update(
        subscription.id, {"cancel_at": at("2026-04-16"), "proration_behavior": "create_prorations"}
    )
    life.advance("2026-04-17")

    ended = life.again(subscription)
    assert (ended.status, ended.ended_at) == ("canceled", at("2026-04-16"))
    assert len(life.events("customer.subscription.deleted")) == 1


def test_prorations_that_wait_when_all_ends_are_invoiced_with_the_end(life: Life) -> None:
    # −1500 + 3000 wait since the 16th; on the 21st the rest of the new price is credited: −2000.
    # 1500 − 2000 = −500.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000))
    life.advance("2026-04-21")
    life.api.subscriptions.cancel(subscription.id, {"prorate": True, "invoice_now": True})

    assert amounts(life.last()) == [-2000, -1500, 3000]
    assert life.balance() == -500


def test_prorations_that_wait_stay_where_the_end_invoices_nothing(life: Life) -> None:
    # Stripe removes them only where invoice_now and prorate are both set, for they are invoiced then.
    # −1500 + 3000 since the 16th and −2000 from the 21st: −500 for the customer's next invoice.
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.change(subscription, life.price(6000))
    life.advance("2026-04-21")
    life.api.subscriptions.cancel(subscription.id, {"prorate": True})

    waiting = life.api.invoice_items.list({"customer": life.customer.id, "pending": True}).data
    assert sorted(each.amount for each in waiting) == [-2000, -1500, 3000]
