from urllib.parse import parse_qs, urlsplit

import pytest
import stripe

from sandbox import Sandbox
from sandbox.payments import setting_up
from sandbox.payments.cards import Decline
from sandbox.store import Object
from tests.sandbox.challenges import (
    BACK,
    UNTIL_SET_UP,
    answer,
    set_up,
)


def test_good_card_is_set_up_at_once_and_given_to_the_customer(shop):
    customer = shop.customer()

    intent = set_up(shop, "pm_card_visa", customer, metadata={"a": "1"})

    assert (intent.status, intent.usage, intent.metadata["a"]) == ("succeeded", "off_session", "1")
    assert shop.api.payment_methods.retrieve(intent.payment_method).customer == customer.id
    attempt = shop.api.setup_intents.retrieve(intent.id, {"expand": ["latest_attempt"]}).latest_attempt
    assert attempt.status == "succeeded"
    assert shop.event_types()[-3:] == [
        "setup_intent.created",
        "payment_method.attached",
        "setup_intent.succeeded",
    ]


def test_set_up_waits_for_the_challenge_and_returns_with_the_intent(shop, browser):
    customer = shop.customer()
    intent = shop.api.setup_intents.create({"customer": customer.id})
    assert intent.status == "requires_payment_method"
    intent = shop.api.setup_intents.confirm(intent.id, {"payment_method": UNTIL_SET_UP, "return_url": BACK})
    assert intent.status == "requires_action"
    assert shop.event_types()[-1] == "setup_intent.requires_action"
    assert shop.api.payment_methods.list({"customer": customer.id}).data == []

    went = answer(browser, intent, "complete")

    query = parse_qs(urlsplit(went.location).query)
    assert query["setup_intent"] == [intent.id]
    assert query["setup_intent_client_secret"] == [intent.client_secret]
    assert query["redirect_status"] == ["succeeded"]
    assert len(shop.api.payment_methods.list({"customer": customer.id}).data) == 1
    assert shop.event_types()[-1] == "setup_intent.succeeded"


def test_failed_set_up_keeps_no_card(shop, browser):
    customer = shop.customer()
    intent = set_up(shop, UNTIL_SET_UP, customer, return_url=BACK)

    answer(browser, intent, "fail")

    intent = shop.api.setup_intents.retrieve(intent.id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_setup_error.code == "setup_intent_authentication_failure"
    assert shop.api.payment_methods.list({"customer": customer.id}).data == []
    assert shop.event_types()[-1] == "setup_intent.setup_failed"


def test_declined_card_is_not_set_up(shop):
    customer = shop.customer()

    with pytest.raises(stripe.CardError) as refused:
        set_up(shop, "pm_card_chargeDeclined", customer)

    error = refused.value
    assert (error.http_status, error.code, error.error.decline_code) == (
        402,
        "card_declined",
        "generic_decline",
    )
    intent = shop.api.setup_intents.retrieve(error.error.setup_intent.id)
    assert intent.status == "requires_payment_method"
    assert intent.last_setup_error.decline_code == "generic_decline"
    assert shop.event_types()[-1] == "setup_intent.setup_failed"


def test_card_that_only_charges_refuse_is_set_up(shop):
    assert set_up(shop, "pm_card_chargeCustomerFail", shop.customer()).status == "succeeded"


def test_set_up_is_changed_canceled_and_listed(shop):
    customer = shop.customer()
    intent = shop.api.setup_intents.create({"customer": customer.id, "payment_method_types": ["card"]})
    intent = shop.api.setup_intents.update(
        intent.id, {"payment_method": "pm_card_visa", "description": "Later", "metadata": {"a": "1"}}
    )
    assert (intent.status, intent.description) == ("requires_confirmation", "Later")

    intent = shop.api.setup_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})

    assert (intent.status, intent.cancellation_reason) == ("canceled", "abandoned")
    assert shop.event_types()[-1] == "setup_intent.canceled"
    assert [each.id for each in shop.api.setup_intents.list({"customer": customer.id}).data] == [intent.id]
    for call in (shop.api.setup_intents.cancel, shop.api.setup_intents.confirm):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            call(intent.id)
        assert (refused.value.http_status, refused.value.code) == (400, "setup_intent_unexpected_state")


def test_listeners_hear_how_each_set_up_ended(shop, browser, monkeypatch):
    heard: list[tuple[str, str | None]] = []

    def listen(state: Sandbox, intent: Object, decline: Decline | None) -> None:
        heard.append((intent["status"], decline.code if decline else None))

    monkeypatch.setattr(setting_up, "_HEARD", [listen])
    customer = shop.customer()
    answer(browser, set_up(shop, UNTIL_SET_UP, customer), "complete")
    answer(browser, set_up(shop, UNTIL_SET_UP, customer), "fail")

    assert heard == [
        ("succeeded", None),
        ("requires_payment_method", "setup_intent_authentication_failure"),
    ]


def test_each_try_to_set_up_a_card_is_kept(shop, browser):
    customer = shop.customer()
    intent = set_up(shop, UNTIL_SET_UP, customer)
    answer(browser, intent, "fail")
    shop.api.setup_intents.confirm(intent.id, {"payment_method": UNTIL_SET_UP})
    shop.api.setup_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})

    attempts = shop.api.setup_attempts.list({"setup_intent": intent.id}).data

    assert [each.status for each in attempts] == ["succeeded", "abandoned", "failed"]
    assert attempts[2].setup_error.code == "setup_intent_authentication_failure"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.api.setup_attempts.list({"setup_intent": "seti_missing"})
    assert (refused.value.code, refused.value.param) == ("resource_missing", "setup_intent")
