"""Turns in a subscription's life that few take: customers who leave, debts written off, trials that pause."""

from typing import Any

import pytest
import stripe

from tests.sandbox.worked.life import Life, at


@pytest.fixture
def life(client: stripe.StripeClient) -> Life:
    return Life(client)


def test_a_deleted_customers_draft_stays_a_draft(life: Life) -> None:
    life.subscribe(life.price(3000))
    life.advance("2026-05-01T00:10:00")
    life.api.customers.delete(life.customer.id)
    life.advance("2026-05-02")

    assert (life.last().status, life.last().auto_advance) == ("draft", False)
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        life.api.invoices.finalize_invoice(life.last().id)


def test_a_deleted_customers_schedule_never_starts(life: Life) -> None:
    schedule = life.api.subscription_schedules.create(
        {
            "customer": life.customer.id,
            "start_date": at("2026-04-05"),
            "phases": [{"items": [{"price": life.price().id}]}],
        }
    )
    life.api.customers.delete(life.customer.id)
    life.advance("2026-04-06")

    assert life.api.subscription_schedules.retrieve(schedule.id).status == "canceled"


def test_a_schedule_whose_subscription_ends_for_want_of_payment_is_aborted(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    schedule = life.api.subscription_schedules.create({"from_subscription": subscription.id})
    phase = {"items": [{"price": life.price(2000).id}], "duration": {"interval": "year", "interval_count": 1}}
    life.api.subscription_schedules.update(
        schedule.id,
        {
            "phases": [
                {
                    "items": [{"price": subscription["items"].data[0].price.id}],
                    "start_date": schedule.phases[0].start_date,
                    "end_date": schedule.phases[0].end_date,
                },
                phase,
            ]
        },
    )
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-20")

    assert life.again(subscription).status == "canceled"
    assert life.api.subscription_schedules.retrieve(schedule.id).status == "canceled"
    assert len(life.events("subscription_schedule.aborted")) == 1
    assert life.events("subscription_schedule.canceled") == []


def test_a_deleted_customers_invoice_is_not_tried_again(life: Life) -> None:
    life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")
    life.api.customers.delete(life.customer.id)
    life.advance("2026-05-20")

    assert (life.last().status, life.last().attempt_count) == ("open", 1)


def test_a_debt_written_off_may_still_be_paid(life: Life) -> None:
    life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")
    life.api.invoices.mark_uncollectible(life.last().id)
    life.pay_with("pm_card_visa")
    paid = life.api.invoices.pay(life.last().id)

    assert (paid.status, paid.amount_paid, paid.amount_remaining) == ("paid", 3000, 0)


def test_a_declined_try_at_a_debt_written_off_is_an_error(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")
    life.api.invoices.mark_uncollectible(life.last().id)
    with pytest.raises(stripe.CardError):
        life.api.invoices.pay(life.last().id)

    assert (life.last().status, life.last().next_payment_attempt) == ("uncollectible", None)
    assert life.again(subscription).status == "active"


def test_money_from_outside_is_no_payment_attempt(life: Life) -> None:
    life.subscribe(life.price(3000), collection_method="send_invoice", days_until_due=5)
    life.api.invoices.pay(life.last().id, {"paid_out_of_band": True})

    assert len(life.events("invoice.paid")) == 1
    assert life.events("invoice.payment_succeeded") == []


def paused(life: Life) -> Any:
    """Return a subscription at 30.00 whose trial of seven days ended on 8 April without a card."""
    life.api.customers.update(life.customer.id, {"invoice_settings": {"default_payment_method": ""}})
    subscription = life.subscribe(
        life.price(3000),
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    life.advance("2026-04-08")
    assert life.again(subscription).status == "paused"
    return subscription


def test_a_resumed_subscription_is_active_once_its_invoice_is_paid(life: Life) -> None:
    subscription = paused(life)
    life.pay_with("pm_card_chargeCustomerFail")
    assert life.api.subscriptions.resume(subscription.id).status == "paused"
    life.pay_with("pm_card_visa")
    life.api.invoices.pay(life.last().id)
    assert life.again(subscription).status == "active"
    assert len(life.events("customer.subscription.resumed")) == 1
    life.advance("2026-05-08T01:00:00")

    assert life.totals() == [0, 3000, 3000]


def test_a_resumed_subscription_is_active_once_its_invoice_is_written_off(life: Life) -> None:
    subscription = paused(life)
    life.pay_with("pm_card_chargeCustomerFail")
    life.api.subscriptions.resume(subscription.id)
    life.api.invoices.mark_uncollectible(life.last().id)

    assert life.again(subscription).status == "active"


def test_an_invoice_for_resuming_is_void_after_23_hours(life: Life) -> None:
    subscription = paused(life)
    life.pay_with("pm_card_chargeCustomerFail")
    life.api.subscriptions.resume(subscription.id)
    life.advance("2026-04-08T23:00:00")

    assert (life.last().status, life.again(subscription).status) == ("void", "paused")


def test_resuming_with_the_anchor_kept_charges_the_rest_of_the_period(life: Life) -> None:
    # Anchored on 8 April, resumed on 18 April: 20 of the 30 days to 8 May, 3000 × 20 / 30 = 2000.
    subscription = paused(life)
    life.advance("2026-04-18")
    life.pay_with("pm_card_visa")
    life.api.subscriptions.resume(subscription.id, {"billing_cycle_anchor": "unchanged"})
    life.advance("2026-05-08T01:00:00")

    assert life.totals() == [0, 2000, 3000]


def test_resuming_without_proration_charges_from_the_next_period(life: Life) -> None:
    subscription = paused(life)
    life.advance("2026-04-18")
    life.pay_with("pm_card_visa")
    resumed = life.api.subscriptions.resume(
        subscription.id, {"billing_cycle_anchor": "unchanged", "proration_behavior": "none"}
    )
    assert resumed.status == "active"
    life.advance("2026-05-08T01:00:00")

    assert life.totals() == [0, 3000]


def test_usage_while_paused_is_not_billed_when_it_ends(life: Life) -> None:
    life.api.customers.update(life.customer.id, {"invoice_settings": {"default_payment_method": ""}})
    life.subscribe(
        life.metered_price(life.meter()),
        trial_period_days=7,
        cancel_at=at("2026-04-20"),
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    life.advance("2026-04-10")
    life.use(100)
    life.advance("2026-04-21")

    assert life.totals() == []


def test_the_last_invoice_of_a_paused_collection_is_not_collected(life: Life) -> None:
    subscription = life.subscribe(life.metered_price(life.meter()), cancel_at_period_end=True)
    life.use(100)
    life.api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": "void"}})
    life.advance("2026-05-02")

    assert (life.last().status, life.last().total) == ("void", 1000)


def test_cancelling_at_period_end_means_the_period_that_ends_first(life: Life) -> None:
    # A yearly base with monthly usage: the end is the month's. 335 of 365 days are given back.
    subscription = life.subscribe(
        life.price(36500, interval="year"), life.metered_price(life.meter()), cancel_at_period_end=True
    )
    assert subscription.cancel_at == at("2026-05-01")
    life.advance("2026-05-02")

    assert life.again(subscription).status == "canceled"
    assert life.last().total == -33500


def test_a_pending_update_expires_with_the_period_at_the_latest(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-30T12:00:00")
    life.pay_with("pm_card_chargeCustomerFail")
    waiting = life.change(
        subscription,
        life.price(9000),
        payment_behavior="pending_if_incomplete",
        proration_behavior="always_invoice",
    )

    assert waiting.pending_update.expires_at == at("2026-05-01")


def test_what_cannot_wait_is_refused_for_a_pending_update(life: Life) -> None:
    subscription = life.subscribe(life.price())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.subscriptions.update(
            subscription.id, {"payment_behavior": "pending_if_incomplete", "description": "new"}
        )
    assert refused.value.param == "description"


def test_a_trial_of_more_than_two_years_is_refused(life: Life) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.subscribe(life.price(), trial_end=at("2031-01-01"))
    assert refused.value.param == "trial_end"


def test_an_item_that_was_removed_is_not_found(life: Life) -> None:
    subscription = life.subscribe(life.price(), life.price())
    item = subscription["items"].data[0].id
    life.api.subscription_items.delete(item)
    for ask in (
        lambda: life.api.subscription_items.retrieve(item),
        lambda: life.api.subscription_items.update(item, {"quantity": 2}),
        lambda: life.api.subscription_items.delete(item),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            ask()
        assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_an_items_endpoint_names_its_own_parameters(life: Life) -> None:
    subscription = life.subscribe(life.price())
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.subscription_items.create({"subscription": subscription.id, "price": "price_none"})
    assert refused.value.param == "price"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.subscription_items.create({"subscription": subscription.id})
    assert (refused.value.param, refused.value.code) == ("price", "parameter_missing")


def test_a_tax_rate_that_is_not_there_is_refused_on_an_item(life: Life) -> None:
    subscription = life.subscribe(life.price())
    item = {"id": subscription["items"].data[0].id, "tax_rates": ["txr_none"]}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.subscriptions.update(subscription.id, {"items": [item]})
    assert refused.value.param == "items[0][tax_rates][0]"


def test_an_invoice_item_in_another_currency_is_refused(life: Life) -> None:
    life.subscribe(life.price())
    with pytest.raises(stripe.InvalidRequestError, match="combine currencies"):
        life.api.invoice_items.create({"customer": life.customer.id, "amount": 500, "currency": "eur"})


def test_a_preview_moves_no_running_subscriptions_anchor_to_a_date(life: Life) -> None:
    subscription = life.subscribe(life.price())
    details = {"billing_cycle_anchor": at("2026-04-20")}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        life.api.invoices.create_preview({"subscription": subscription.id, "subscription_details": details})
    assert refused.value.param == "subscription_details[billing_cycle_anchor]"


def test_a_preview_of_a_new_subscription_knows_its_items_discounts(life: Life) -> None:
    coupon = life.api.coupons.create({"percent_off": 50, "duration": "once"})
    item = {"price": life.price(3000).id, "discounts": [{"coupon": coupon.id}]}
    preview = life.api.invoices.create_preview(
        {"customer": life.customer.id, "subscription_details": {"items": [item]}}
    )
    life.subscribe(item)

    assert preview.total == life.last().total == 1500


def test_voiding_its_invoice_gives_a_pending_update_up(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    life.advance("2026-04-16")
    life.pay_with("pm_card_chargeCustomerFail")
    life.change(
        subscription,
        life.price(9000),
        payment_behavior="pending_if_incomplete",
        proration_behavior="always_invoice",
    )
    life.api.invoices.void_invoice(life.last().id)

    assert life.again(subscription).pending_update is None
    assert len(life.events("customer.subscription.pending_update_expired")) == 1


def test_collecting_again_by_itself_tries_the_card_again(life: Life) -> None:
    life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")
    life.api.invoices.update(life.last().id, {"auto_advance": False})
    life.advance("2026-05-10")
    assert life.last().attempt_count == 1
    life.pay_with("pm_card_visa")
    life.api.invoices.update(life.last().id, {"auto_advance": True})
    life.advance("2026-05-10T01:00:00")

    assert life.last().status == "paid"
