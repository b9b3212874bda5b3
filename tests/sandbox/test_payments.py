import datetime

import pytest
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import Sandbox
from sandbox.payments.cards import NAMES, is_card_number, number_of
from sandbox.transport import SandboxHTTPClient
from tests.sandbox.helpers import KEY, Shop


def pay(shop: Shop, card: str = "pm_card_visa", amount: int = 4900, **params: object) -> stripe.PaymentIntent:
    return shop.api.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "payment_method": card,
            "payment_method_types": ["card"],
            "confirm": True,
            **params,
        }
    )


def refused(call: object, *args: object, **params: object) -> stripe.StripeError:
    with pytest.raises(stripe.StripeError) as caught:
        call(*args, **params)
    return caught.value


def test_good_card_pays_in_one_call(shop):
    intent = pay(shop, metadata={"order": "7"}, description="A hat")

    assert (intent.status, intent.amount_received, intent.last_payment_error) == ("succeeded", 4900, None)
    charge = shop.api.charges.retrieve(intent.latest_charge)
    assert (charge.amount_captured, charge.paid, charge.status) == (4900, True, "succeeded")
    assert (charge.metadata["order"], charge.description) == ("7", "A hat")
    assert shop.event_types() == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]


def test_intent_waits_for_a_card_and_then_for_a_word(shop):
    intent = shop.api.payment_intents.create({"amount": 4900, "currency": "usd"})
    assert (intent.status, intent.capture_method) == ("requires_payment_method", "automatic_async")
    assert intent.automatic_payment_methods.enabled

    intent = shop.api.payment_intents.update(intent.id, {"payment_method": "pm_card_visa", "amount": 5000})
    assert (intent.status, intent.amount) == ("requires_confirmation", 5000)

    intent = shop.api.payment_intents.confirm(intent.id, {"return_url": "http://127.0.0.1/done"})
    assert (intent.status, intent.amount_received) == ("succeeded", 5000)


def test_confirming_needs_an_address_to_return_to_where_ways_of_paying_may_redirect(shop):
    intent = shop.api.payment_intents.create(
        {"amount": 4900, "currency": "usd", "payment_method": "pm_card_visa"}
    )

    error = refused(shop.api.payment_intents.confirm, intent.id)

    assert error.http_status == 400
    assert "you must provide a `return_url`" in error.user_message
    assert shop.api.payment_intents.retrieve(intent.id).status == "requires_confirmation"


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_chargeCustomerFail", "card_declined", "generic_decline"),
    ],
)
def test_bad_card_is_a_402_that_names_the_reason_and_keeps_the_intent(shop, card, code, decline_code):
    error = refused(pay, shop, card)

    assert isinstance(error, stripe.CardError)
    assert (error.http_status, error.code) == (402, code)
    assert error.error.decline_code == decline_code
    intent = shop.api.payment_intents.retrieve(error.error.payment_intent.id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error.decline_code == decline_code
    assert intent.last_payment_error.payment_method.card.last4
    charge = shop.api.charges.retrieve(error.error.charge)
    assert (charge.status, charge.failure_code, charge.amount_captured) == ("failed", code, 0)
    assert shop.event_types()[-2:] == ["charge.failed", "payment_intent.payment_failed"]


def test_another_card_can_be_tried_after_a_decline(shop):
    failed = refused(pay, shop, "pm_card_chargeDeclined").error.payment_intent

    intent = shop.api.payment_intents.confirm(failed.id, {"payment_method": "pm_card_visa"})

    assert (intent.status, intent.last_payment_error) == ("succeeded", None)
    charges = shop.api.charges.list({"payment_intent": intent.id}).data
    assert [each.status for each in charges] == ["succeeded", "failed"]


def test_forced_decline_meets_a_good_card(shop, sandbox: Sandbox):
    sandbox.faults.add("declined", times=1)

    assert refused(pay, shop).http_status == 402
    assert pay(shop).status == "succeeded"


def test_card_that_pays_with_future_usage_is_saved_to_the_customer(shop):
    customer = shop.customer()

    intent = pay(shop, customer=customer.id, setup_future_usage="off_session")

    method = shop.api.payment_methods.retrieve(intent.payment_method)
    assert method.customer == customer.id
    assert "payment_method.attached" in shop.event_types()
    again = pay(shop, method.id, customer=customer.id, off_session=True)
    assert again.status == "succeeded"


def test_card_that_nobody_saved_pays_once(shop):
    first = pay(shop)

    error = refused(pay, shop, first.payment_method)

    assert error.http_status == 400
    assert "may not be used again" in error.user_message


def test_card_of_another_customer_is_refused(shop):
    owner = shop.payer()
    card = owner.invoice_settings.default_payment_method

    assert (
        "must be attached to the customer"
        in refused(pay, shop, card, customer=shop.customer().id).user_message
    )
    error = refused(pay, shop, card)
    assert (error.http_status, error.param) == (400, "payment_method")
    assert owner.id in error.user_message


def test_held_amount_is_captured_in_part_and_the_rest_given_back(shop):
    held = pay(shop, capture_method="manual")
    assert (held.status, held.amount_capturable, held.amount_received) == ("requires_capture", 4900, 0)
    assert shop.event_types()[-1] == "payment_intent.amount_capturable_updated"
    assert shop.api.charges.retrieve(held.latest_charge).balance_transaction is None

    taken = shop.api.payment_intents.capture(held.id, {"amount_to_capture": 3000})

    assert (taken.status, taken.amount_capturable, taken.amount_received) == ("succeeded", 0, 3000)
    charge = shop.api.charges.retrieve(taken.latest_charge, {"expand": ["balance_transaction"]})
    assert (charge.captured, charge.amount_captured, charge.amount_refunded) == (True, 3000, 1900)
    assert charge.balance_transaction.amount == 3000
    assert shop.event_types()[-2:] == ["charge.captured", "payment_intent.succeeded"]


def test_no_more_is_captured_than_is_held(shop):
    held = pay(shop, capture_method="manual")

    error = refused(shop.api.payment_intents.capture, held.id, {"amount_to_capture": 4901})
    assert (error.http_status, error.code, error.param) == (400, "amount_too_large", "amount_to_capture")

    paid = pay(shop)
    error = refused(shop.api.payment_intents.capture, paid.id)
    assert (error.http_status, error.code) == (400, "payment_intent_unexpected_state")


def test_held_amount_is_let_go_on_cancel_and_after_seven_days(shop, sandbox: Sandbox):
    sandbox.clock.freeze(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
    held = pay(shop, capture_method="manual")
    canceled = shop.api.payment_intents.cancel(held.id, {"cancellation_reason": "duplicate"})
    assert (canceled.status, canceled.cancellation_reason) == ("canceled", "duplicate")
    assert shop.api.charges.retrieve(held.latest_charge).refunded
    assert shop.event_types()[-2:] == ["charge.refunded", "payment_intent.canceled"]

    late = pay(shop, capture_method="manual")
    sandbox.set_clock(advance=7 * 86400)

    late = shop.api.payment_intents.retrieve(late.id)
    assert (late.status, late.cancellation_reason) == ("canceled", "automatic")
    assert shop.event_types()[-2:] == ["charge.expired", "payment_intent.canceled"]


def test_paid_intent_can_be_neither_canceled_nor_confirmed_nor_repriced(shop):
    intent = pay(shop)

    for call, params in (
        (shop.api.payment_intents.cancel, {}),
        (shop.api.payment_intents.confirm, {}),
        (shop.api.payment_intents.update, {"amount": 1}),
    ):
        error = refused(call, intent.id, params)
        assert (error.http_status, error.code) == (400, "payment_intent_unexpected_state")
        assert error.error.payment_intent.id == intent.id
    assert shop.api.payment_intents.update(intent.id, {"metadata": {"a": "1"}}).metadata["a"] == "1"


def test_client_secret_opens_only_its_own_intent(shop):
    first = shop.api.payment_intents.create({"amount": 4900, "currency": "usd"})
    other = shop.api.payment_intents.create({"amount": 4900, "currency": "usd"})

    found = shop.api.payment_intents.retrieve(first.id, {"client_secret": first.client_secret})
    assert found.id == first.id
    error = refused(shop.api.payment_intents.retrieve, first.id, {"client_secret": other.client_secret})
    assert (error.http_status, error.param) == (400, "client_secret")
    assert error.code == "payment_intent_invalid_parameter"


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": 49}, "amount_too_small", "amount"),
        ({"amount": 100_000_000}, "amount_too_large", "amount"),
        ({"customer": "cus_missing"}, "resource_missing", "customer"),
        ({"payment_method": "pm_missing"}, "resource_missing", "payment_method"),
        ({"confirm": False, "off_session": True}, None, "off_session"),
        ({"confirm": False, "return_url": "http://127.0.0.1/"}, None, "return_url"),
    ],
)
def test_what_cannot_be_paid_is_refused_with_its_parameter(shop, params, code, param):
    error = refused(pay, shop, **params)

    assert (error.http_status, error.code, error.param) == (400, code, param)
    assert shop.event_types() == []


def test_intent_without_amount_or_currency_is_refused(shop):
    for params, missing in (({"currency": "usd"}, "amount"), ({"amount": 100}, "currency")):
        error = refused(shop.api.payment_intents.create, params)
        assert (error.http_status, error.code, error.param) == (400, "parameter_missing", missing)


def test_intent_with_no_card_is_not_confirmed(shop):
    intent = shop.api.payment_intents.create(
        {"amount": 4900, "currency": "usd", "payment_method_types": ["card"]}
    )

    error = refused(shop.api.payment_intents.confirm, intent.id)

    assert (error.http_status, error.code) == (400, "payment_intent_unexpected_state")
    assert "missing a payment method" in error.user_message


def test_missing_things_are_404(shop):
    for call, identifier in (
        (shop.api.payment_intents.retrieve, "pi_missing"),
        (shop.api.setup_intents.retrieve, "seti_missing"),
        (shop.api.charges.retrieve, "ch_missing"),
        (shop.api.tokens.retrieve, "tok_missing"),
        (shop.api.balance_transactions.retrieve, "txn_missing"),
    ):
        error = refused(call, identifier)
        assert (error.http_status, error.code) == (404, "resource_missing")


def test_intents_and_charges_are_found_by_customer_and_search(shop):
    customer = shop.payer()
    card = customer.invoice_settings.default_payment_method
    mine = pay(shop, card, customer=customer.id, metadata={"order": "7"})
    pay(shop)

    assert [each.id for each in shop.api.payment_intents.list({"customer": customer.id}).data] == [mine.id]
    assert [each.id for each in shop.api.charges.list({"customer": customer.id}).data] == [mine.latest_charge]
    found = shop.api.payment_intents.search({"query": "metadata['order']:'7'"}).data
    assert [each.id for each in found] == [mine.id]
    found = shop.api.charges.search({"query": f"customer:'{customer.id}'"}).data
    assert [each.id for each in found] == [mine.latest_charge]


def test_charge_takes_words_and_tells_of_it(shop):
    charge = pay(shop).latest_charge

    changed = shop.api.charges.update(
        charge, {"metadata": {"a": "1"}, "description": "Hat", "fraud_details": {"user_report": "safe"}}
    )

    assert (changed.metadata["a"], changed.description) == ("1", "Hat")
    assert changed.fraud_details.user_report == "safe"
    assert shop.event_types()[-1] == "charge.updated"
    with pytest.raises(stripe.InvalidRequestError):
        shop.api.charges.update(charge, {"shipping": ""})


def test_balance_transaction_holds_back_stripes_fee(shop, sandbox: Sandbox):
    sandbox.clock.freeze(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC))
    charge = shop.api.charges.retrieve(pay(shop).latest_charge)

    row = shop.api.balance_transactions.retrieve(charge.balance_transaction)

    # 2.9 % of 49.00 is 1.421, rounded 1.42; with 0.30 it is 1.72.
    assert (row.amount, row.fee, row.net) == (4900, 172, 4728)
    assert (row.source, row.type, row.status) == (charge.id, "charge", "pending")
    sandbox.set_clock(advance=2 * 86400)
    listed = shop.api.balance_transactions.list({"source": charge.id}).data
    assert [each.status for each in listed] == ["available"]


@settings(max_examples=25, deadline=None)
@given(amount=st.integers(50, 99_999_999))
def test_fee_and_net_make_the_amount(amount):
    shop = Shop(stripe.StripeClient(KEY, http_client=SandboxHTTPClient(Sandbox())))
    pay(shop, amount=amount)
    row = shop.api.balance_transactions.list().data[0]
    assert row.net + row.fee == row.amount == amount
    assert 0 < row.fee < amount


def test_token_of_a_card_works_once(shop):
    token = shop.api.tokens.create(
        {"card": {"number": "4242 4242 4242 4242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}}
    )
    assert (token.card.brand, token.card.last4, token.used) == ("Visa", "4242", False)

    method = shop.api.payment_methods.create({"type": "card", "card": {"token": token.id}})

    assert (method.card.last4, method.card.exp_year) == ("4242", 2040)
    assert shop.api.tokens.retrieve(token.id).used
    error = refused(shop.api.payment_methods.create, {"type": "card", "card": {"token": token.id}})
    assert (error.http_status, error.code) == (400, "token_already_used")


@pytest.mark.parametrize(
    ("name", "last4"), [("tok_visa", "4242"), ("tok_amex", "0005"), ("tok_chargeDeclined", "0002")]
)
def test_named_token_is_a_card(shop, name, last4):
    method = shop.api.payment_methods.create({"type": "card", "card": {"token": name}})

    assert method.card.last4 == last4
    assert shop.api.tokens.retrieve(name).card.last4 == last4


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"number": "4242424242424241"}, "incorrect_number", "number"),
        ({"exp_month": "13"}, "invalid_expiry_month", "exp_month"),
        ({"exp_year": "2001"}, "invalid_expiry_year", "exp_year"),
        ({"cvc": "12"}, "invalid_cvc", "cvc"),
    ],
)
def test_card_that_cannot_be_is_a_402(shop, change, code, param):
    card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123", **change}

    for call, params in (
        (shop.api.tokens.create, {"card": card}),
        (shop.api.payment_methods.create, {"type": "card", "card": card}),
    ):
        error = refused(call, params)
        assert (error.http_status, error.code, error.param) == (402, code, param)


def test_unknown_token_is_refused(shop):
    error = refused(shop.api.payment_methods.create, {"type": "card", "card": {"token": "tok_nothing"}})

    assert (error.http_status, error.code, error.param) == (400, "resource_missing", "card[token]")


def test_saved_card_takes_a_new_expiry_and_refuses_one_that_is_past(shop):
    card = shop.payer().invoice_settings.default_payment_method

    changed = shop.api.payment_methods.update(card, {"card": {"exp_month": 1, "exp_year": 2041}})

    assert (changed.card.exp_month, changed.card.exp_year) == (1, 2041)
    error = refused(shop.api.payment_methods.update, card, {"card": {"exp_year": 2001}})
    assert (error.http_status, error.code) == (402, "invalid_expiry_year")


def test_card_can_be_reached_through_its_customer_alone(shop):
    owner = shop.payer()
    card = owner.invoice_settings.default_payment_method

    assert shop.api.customers.payment_methods.retrieve(owner.id, card).id == card
    error = refused(shop.api.customers.payment_methods.retrieve, shop.customer().id, card)
    assert error.code == "resource_missing"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_named_card_has_a_number_that_a_form_takes(name):
    assert is_card_number(NAMES[name])
    assert number_of(f"pm_{name}") == number_of(f"tok_{name.removeprefix('card_')}") == NAMES[name]
