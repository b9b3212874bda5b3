"""Turns in a subscription's life that few take: customers who leave, debts written off, trials that pause."""

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
