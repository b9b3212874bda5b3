"""Collecting: invoices paused, never paid, paid late."""

import pytest
import stripe

from tests.sandbox.worked.life import DAY, Life, at, period


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [("void", "void"), ("keep_as_draft", "draft"), ("mark_uncollectible", "uncollectible")],
)
def test_paused_collection_charges_nothing(life: Life, behaviour: str, status: str) -> None:
    # April is paid; May is invoiced, and becomes what the seller chose.
    subscription = life.subscribe(life.price(4900))
    life.api.subscriptions.update(subscription.id, {"pause_collection": {"behavior": behaviour}})
    life.advance("2026-05-01T02:00:00")

    assert life.again(subscription).status == "active"
    assert [(each.status, each.amount_paid) for each in life.invoices()] == [("paid", 4900), (status, 0)]
    assert period(life.again(subscription)) == ("2026-05-01", "2026-06-01")


def test_paused_collection_resumes_on_its_day(life: Life) -> None:
    # Void from 15 April until 15 May: May's invoice is void, June's is paid.
    subscription = life.subscribe(life.price(4900))
    life.api.subscriptions.update(
        subscription.id, {"pause_collection": {"behavior": "void", "resumes_at": at("2026-05-15")}}
    )
    life.advance("2026-06-01T02:00:00")

    assert life.again(subscription).pause_collection is None
    assert [each.status for each in life.invoices()] == ["paid", "void", "paid"]


def test_a_first_invoice_nobody_pays_expires_after_23_hours(life: Life) -> None:
    subscription = life.subscribe(life.price(4900), payment_behavior="default_incomplete")
    assert (subscription.status, life.last().status) == ("incomplete", "open")
    life.advance("2026-04-01T22:59:59")
    assert life.again(subscription).status == "incomplete"
    life.advance("2026-04-01T23:00:00")

    assert life.again(subscription).status == "incomplete_expired"
    assert (life.last().status, life.last().amount_paid) == ("void", 0)
    # Told of as a change, unlike every other end.
    assert life.events("customer.subscription.updated")
    assert life.events("customer.subscription.deleted") == []


def test_a_first_invoice_paid_in_time_makes_it_active(life: Life) -> None:
    subscription = life.subscribe(life.price(4900), payment_behavior="default_incomplete")
    life.advance("2026-04-01T12:00:00")
    life.api.invoices.pay(life.last().id)
    life.advance("2026-05-01T01:00:00")

    # The period still began when the subscription was made, not when it was paid.
    assert life.again(subscription).status == "active"
    assert life.totals() == [4900, 4900]
    assert period(life.again(subscription)) == ("2026-05-01", "2026-06-01")


def test_a_card_that_begins_to_fail_makes_it_past_due_and_then_ends_it(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")

    assert life.again(subscription).status == "past_due"
    failed = life.last()
    assert (failed.status, failed.attempt_count, failed.amount_remaining) == ("open", 1, 4900)
    assert failed.next_payment_attempt > at("2026-05-01T01:00:00")
    life.advance("2026-05-31")

    # Every retry was announced by the one before, and the last one ends the subscription.
    ended = life.again(subscription)
    assert (ended.status, ended.cancellation_details.reason) == ("canceled", "payment_failed")
    failures = life.events("invoice.payment_failed")
    announced = [event.data.object["next_payment_attempt"] for event in failures]
    # Some seconds may lie between an attempt's hour and its event, but no day.
    assert len(failures) >= 4
    assert announced[-1] is None
    assert all(
        abs(after.created - due) < DAY for due, after in zip(announced[:-1], failures[1:], strict=True)
    )
    assert life.last().attempt_count == len(failures)
    assert life.last().amount_paid == 0


def test_a_new_card_and_a_payment_bring_it_back(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-02")
    assert life.again(subscription).status == "past_due"
    life.pay_with("pm_card_visa")
    life.api.invoices.pay(life.last().id)

    assert life.again(subscription).status == "active"
    assert (life.last().status, life.last().amount_paid) == ("paid", 4900)
    life.advance("2026-06-01T01:00:00")
    assert [each.status for each in life.invoices()] == ["paid"] * 3


def test_a_new_card_is_charged_by_the_next_retry(life: Life) -> None:
    subscription = life.subscribe(life.price(4900))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-05-01T01:00:00")
    retry = life.last().next_payment_attempt
    life.pay_with("pm_card_visa")
    life.advance(retry + 3600)

    assert life.again(subscription).status == "active"
    assert (life.last().status, life.last().attempt_count) == ("paid", 2)


def test_an_upgrade_that_cannot_be_paid_may_be_refused_altogether(life: Life) -> None:
    subscription = life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-04-16")
    with pytest.raises(stripe.CardError):
        life.change(
            subscription,
            life.price(6000),
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
        )

    again = life.again(subscription)
    assert (again.status, again["items"].data[0].price.unit_amount) == ("active", 3000)
    assert life.totals() == [3000]


def test_an_upgrade_waits_for_its_payment_where_asked(life: Life) -> None:
    # −1500 + 3000 = 1500 must be paid before the new price counts.
    subscription = life.subscribe(life.price(3000))
    life.pay_with("pm_card_chargeCustomerFail")
    life.advance("2026-04-16")
    waiting = life.change(
        subscription,
        life.price(6000),
        proration_behavior="always_invoice",
        payment_behavior="pending_if_incomplete",
    )
    assert waiting.pending_update is not None
    assert waiting["items"].data[0].price.unit_amount == 3000
    life.pay_with("pm_card_visa")
    life.api.invoices.pay(waiting.latest_invoice)

    done = life.again(subscription)
    assert (done.pending_update, done["items"].data[0].price.unit_amount) == (None, 6000)
    assert life.totals() == [3000, 1500]
