import pytest
import stripe

from sandbox import Sandbox
from sandbox.payments import paying
from sandbox.payments.methods import resolve
from tests.sandbox.challenges import (
    ALWAYS,
    BACK,
    UNTIL_SET_UP,
    answer,
    pay,
    set_up,
)
from tests.sandbox.helpers import Shop


def test_invoices_intent_waits_for_its_holder_even_off_session(sandbox: Sandbox):
    with sandbox.change() as state:
        intent = paying.new_intent(state, amount=4900, currency="usd", customer=None, invoice="in_1")
        decline = paying.confirm(state, intent, resolve(state, UNTIL_SET_UP), off_session=True)

    assert (decline, intent["status"]) == (None, "requires_action")


def waiting(shop: Shop) -> tuple[stripe.Customer, stripe.Subscription, stripe.PaymentIntent]:
    """Return a subscription whose first payment is left to the payer's browser."""
    customer = shop.customer()
    subscription = shop.subscription(
        customer,
        shop.price(),
        payment_behavior="default_incomplete",
        expand=["latest_invoice.confirmation_secret"],
    )
    secret = subscription.latest_invoice.confirmation_secret.client_secret
    return customer, subscription, shop.api.payment_intents.retrieve(secret.split("_secret_")[0])


def test_payer_who_pays_the_invoices_intent_starts_the_subscription(shop):
    customer, subscription, intent = waiting(shop)
    assert (subscription.status, intent.status) == ("incomplete", "requires_payment_method")

    shop.api.payment_intents.confirm(
        intent.id, {"payment_method": "pm_card_visa", "client_secret": intent.client_secret}
    )

    assert shop.api.invoices.retrieve(subscription.latest_invoice.id).status == "paid"
    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    assert len(shop.api.payment_methods.list({"customer": customer.id}).data) == 1


def test_subscription_starts_once_the_payer_has_authenticated(shop, browser):
    _, subscription, intent = waiting(shop)
    intent = shop.api.payment_intents.confirm(intent.id, {"payment_method": UNTIL_SET_UP, "return_url": BACK})
    assert shop.api.subscriptions.retrieve(subscription.id).status == "incomplete"
    assert "invoice.payment_action_required" in shop.event_types()

    answer(browser, intent, "complete")

    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    invoice = shop.api.invoices.retrieve(subscription.latest_invoice.id)
    assert (invoice.status, invoice.amount_paid) == ("paid", 4900)


def test_subscription_waits_on_when_the_payer_fails_to_authenticate(shop, browser):
    _, subscription, intent = waiting(shop)
    intent = shop.api.payment_intents.confirm(intent.id, {"payment_method": UNTIL_SET_UP, "return_url": BACK})

    answer(browser, intent, "fail")

    assert shop.api.subscriptions.retrieve(subscription.id).status == "incomplete"
    assert shop.api.invoices.retrieve(subscription.latest_invoice.id).status == "open"


def test_payment_of_an_invoice_can_be_neither_canceled_nor_repriced_by_hand(shop):
    _, _, intent = waiting(shop)

    for call, params in (
        (shop.api.payment_intents.cancel, {}),
        (shop.api.payment_intents.update, {"amount": 100}),
    ):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call(intent.id, params)
        assert refused.value.http_status == 400


def test_challenge_of_a_customer_on_a_test_clock_is_answered_in_that_time(shop, browser):
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    customer = shop.customer(test_clock=clock.id)
    intent = pay(shop, ALWAYS, customer=customer.id)

    answer(browser, intent, "complete")

    charge = shop.api.charges.list({"customer": customer.id}).data[0]
    assert charge.created == 1_800_000_000


def test_credit_note_for_a_subscriptions_first_invoice_starts_it(shop):
    _, subscription, intent = waiting(shop)

    shop.api.credit_notes.create({"invoice": subscription.latest_invoice.id, "amount": 4900})

    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    assert shop.api.payment_intents.retrieve(intent.id).status == "canceled"


@pytest.mark.parametrize(("card", "status"), [(UNTIL_SET_UP, "active"), (ALWAYS, "past_due")])
def test_renewal_needs_the_payer_again_only_where_the_card_always_asks(shop, browser, card, status):
    clock = shop.api.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    customer = shop.customer(test_clock=clock.id)
    intent = set_up(shop, card, customer)
    answer(browser, intent, "complete")
    method = shop.api.setup_intents.retrieve(intent.id).payment_method
    subscription = shop.subscription(
        customer, shop.price(), default_payment_method=method, trial_period_days=10
    )

    shop.api.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000 + 12 * 86400})

    assert shop.api.subscriptions.retrieve(subscription.id).status == status
    asked = "invoice.payment_action_required" in shop.event_types()
    assert asked is (status == "past_due")
