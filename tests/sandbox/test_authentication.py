from urllib.parse import parse_qs, urlsplit

import pytest
import stripe

from sandbox import Sandbox
from sandbox.errors import ApiError
from sandbox.payments import paying
from sandbox.payments.authenticating import authenticate, authentication_url
from sandbox.payments.cards import Decline
from sandbox.payments.methods import resolve
from sandbox.store import Object
from tests.sandbox.challenges import (
    ALWAYS,
    BACK,
    NO_FUNDS,
    SET_UP,
    UNTIL_SET_UP,
    answer,
    challenge_of,
    pay,
    saved,
    set_up,
)


@pytest.mark.parametrize("card", [UNTIL_SET_UP, ALWAYS, SET_UP, NO_FUNDS])
def test_card_that_needs_authentication_is_not_charged_before_it(shop, card):
    intent = pay(shop, card, return_url=BACK)

    assert (intent.status, intent.latest_charge, intent.amount_received) == ("requires_action", None, 0)
    assert intent.next_action.type == "redirect_to_url"
    assert intent.next_action.redirect_to_url.return_url == BACK
    assert shop.event_types()[-1] == "payment_intent.requires_action"
    assert shop.api.charges.list().data == []


def test_without_a_return_url_the_action_is_stripe_js_own(shop):
    intent = pay(shop, ALWAYS)

    assert intent.next_action.type == "use_stripe_sdk"
    assert intent.next_action.use_stripe_sdk["type"] == "three_d_secure_redirect"
    assert pay(shop, ALWAYS, return_url=BACK, use_stripe_sdk=True).next_action.type == "use_stripe_sdk"


def test_page_names_amount_and_card_and_offers_both_answers(shop, browser):
    page = browser.get(challenge_of(pay(shop, ALWAYS, return_url=BACK)))

    assert page.status_code == 200
    for text in ("$49.00", "3184", "Complete authentication", "Fail authentication"):
        assert text in page.text
    assert "<script" not in page.text


def test_passed_challenge_charges_and_returns_with_the_intent(shop, browser):
    intent = pay(shop, ALWAYS, return_url=BACK)

    went = answer(browser, intent, "complete")

    assert went.status_code == 303
    target = urlsplit(went.location)
    assert target.path == "/done"
    assert parse_qs(target.query) == {
        "order": ["7"],
        "payment_intent": [intent.id],
        "payment_intent_client_secret": [intent.client_secret],
        "redirect_status": ["succeeded"],
    }
    intent = shop.api.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert (intent.status, intent.amount_received, intent.next_action) == ("succeeded", 4900, None)
    assert intent.latest_charge.payment_method_details.card.three_d_secure.result == "authenticated"
    assert shop.event_types()[-2:] == ["charge.succeeded", "payment_intent.succeeded"]


def test_failed_challenge_charges_nothing_and_asks_for_another_card(shop, browser):
    intent = pay(shop, ALWAYS, return_url=BACK)

    went = answer(browser, intent, "fail")

    assert parse_qs(urlsplit(went.location).query)["redirect_status"] == ["failed"]
    intent = shop.api.payment_intents.retrieve(intent.id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"
    assert intent.last_payment_error.type == "invalid_request_error"
    assert shop.api.charges.list().data == []
    assert shop.event_types()[-1] == "payment_intent.payment_failed"
    assert (
        shop.api.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"}).status == "succeeded"
    )


def test_card_may_lack_funds_after_the_challenge(shop, browser):
    intent = pay(shop, NO_FUNDS, return_url=BACK)

    went = answer(browser, intent, "complete")

    assert parse_qs(urlsplit(went.location).query)["redirect_status"] == ["failed"]
    intent = shop.api.payment_intents.retrieve(intent.id)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.decline_code == "insufficient_funds"


def test_page_without_an_address_to_return_to_says_how_it_went(shop, browser):
    passed, failed = pay(shop, ALWAYS), pay(shop, ALWAYS)

    assert "Authentication complete" in answer(browser, passed, "complete").text
    assert "did not work" in answer(browser, failed, "fail").text


def test_second_press_changes_nothing(shop, browser):
    intent = pay(shop, ALWAYS, return_url=BACK)

    answer(browser, intent, "complete")
    again = answer(browser, intent, "fail")

    assert parse_qs(urlsplit(again.location).query)["redirect_status"] == ["succeeded"]
    assert len(shop.api.charges.list().data) == 1
    assert browser.get(challenge_of(intent)).status_code == 303


def test_page_opens_only_with_its_secret(shop, browser):
    intent = pay(shop, ALWAYS)
    other = pay(shop, ALWAYS)

    assert browser.get(f"/3ds/{intent.id}").status_code == 404
    assert browser.get(f"/3ds/{intent.id}?client_secret={other.client_secret}").status_code == 404
    assert browser.post(f"/3ds/{intent.id}", data={"result": "complete"}).status_code == 404
    assert browser.get("/3ds/pi_missing?client_secret=x").status_code == 404
    assert shop.api.payment_intents.retrieve(intent.id).status == "requires_action"


def test_form_without_an_answer_is_shown_again(shop, browser):
    intent = pay(shop, ALWAYS)

    assert answer(browser, intent, "perhaps").status_code == 422
    assert shop.api.payment_intents.retrieve(intent.id).status == "requires_action"


@pytest.mark.parametrize("card", [UNTIL_SET_UP, ALWAYS, NO_FUNDS])
def test_charge_with_the_holder_away_is_declined_for_want_of_authentication(shop, card):
    customer = shop.customer()
    method = shop.api.payment_methods.attach(card, {"customer": customer.id})

    with pytest.raises(stripe.CardError) as refused:
        pay(shop, method.id, customer=customer.id, off_session=True)

    error = refused.value
    assert (error.http_status, error.code) == (402, "authentication_required")
    assert error.error.decline_code == "authentication_required"
    intent = shop.api.payment_intents.retrieve(error.error.payment_intent.id)
    assert intent.status == "requires_payment_method"
    assert intent.last_payment_error.code == "authentication_required"
    assert shop.event_types()[-1] == "payment_intent.payment_failed"


def test_error_on_requires_action_declines_instead_of_asking(shop):
    with pytest.raises(stripe.CardError) as refused:
        pay(shop, ALWAYS, error_on_requires_action=True)

    assert refused.value.code == "authentication_required"


def test_card_set_up_with_authentication_is_charged_with_its_holder_away(shop, browser):
    customer, method = saved(shop, browser, UNTIL_SET_UP)

    assert pay(shop, method, customer=customer.id, off_session=True).status == "succeeded"
    assert pay(shop, method, customer=customer.id).status == "requires_action"


def test_card_saved_by_a_payment_is_charged_with_its_holder_away(shop, browser):
    customer = shop.customer()
    intent = pay(shop, UNTIL_SET_UP, customer=customer.id, setup_future_usage="off_session")
    answer(browser, intent, "complete")
    method = shop.api.payment_intents.retrieve(intent.id).payment_method

    assert shop.api.payment_methods.retrieve(method).customer == customer.id
    assert pay(shop, method, customer=customer.id, off_session=True).status == "succeeded"


def test_card_saved_for_use_on_session_still_needs_its_holder(shop, browser):
    customer = shop.customer()
    intent = set_up(shop, UNTIL_SET_UP, customer, usage="on_session")
    answer(browser, intent, "complete")
    method = shop.api.setup_intents.retrieve(intent.id).payment_method

    with pytest.raises(stripe.CardError) as refused:
        pay(shop, method, customer=customer.id, off_session=True)
    assert refused.value.code == "authentication_required"


def test_card_that_always_asks_is_declined_off_session_though_set_up(shop, browser):
    customer, method = saved(shop, browser, ALWAYS)

    with pytest.raises(stripe.CardError) as refused:
        pay(shop, method, customer=customer.id, off_session=True)
    assert refused.value.code == "authentication_required"


def test_card_that_came_set_up_is_charged_with_its_holder_away(shop):
    customer = shop.customer()
    method = shop.api.payment_methods.attach(SET_UP, {"customer": customer.id})

    assert pay(shop, method.id, customer=customer.id, off_session=True).status == "succeeded"
    assert pay(shop, method.id, customer=customer.id).status == "requires_action"


def test_card_without_funds_fails_though_set_up(shop, browser):
    customer, method = saved(shop, browser, NO_FUNDS)

    with pytest.raises(stripe.CardError) as refused:
        pay(shop, method, customer=customer.id, off_session=True)
    assert refused.value.error.decline_code == "insufficient_funds"


def test_seller_may_insist_on_authentication_where_the_card_can(shop):
    card = "pm_card_threeDSecureOptional"
    insist = {"card": {"request_three_d_secure": "any"}}

    assert pay(shop, card).status == "succeeded"
    assert pay(shop, card, payment_method_options=insist).status == "requires_action"
    assert pay(shop, "pm_card_visa", payment_method_options=insist).status == "succeeded"


def test_listeners_hear_of_the_asking_and_of_the_end(shop, sandbox: Sandbox, monkeypatch):
    heard: list[tuple[str, Decline | None]] = []

    def listen(state: Sandbox, intent: Object, decline: Decline | None) -> None:
        heard.append((intent["status"], decline))

    monkeypatch.setattr(paying, "_HEARD", [listen])
    with sandbox.change() as state:
        intent = paying.new_intent(state, amount=4900, currency="usd", customer=None)
        method = resolve(state, ALWAYS)
        assert paying.confirm(state, intent, method) is None
        assert authenticate(state, intent, passed=True) is None
        with pytest.raises(ApiError):
            authenticate(state, intent, passed=True)

    assert heard == [("requires_action", None), ("succeeded", None)]


def test_page_of_another_part_may_say_where_to_return(shop, sandbox: Sandbox, browser):
    intent = pay(shop, ALWAYS)
    with sandbox.change() as state:
        stored = state.get("payment_intent", intent.id)
        url = urlsplit(authentication_url(state, stored, return_to="http://127.0.0.1:12111/c/pay/cs_1"))

    went = browser.post(f"{url.path}?{url.query}", data={"result": "complete"})

    assert went.location.startswith("http://127.0.0.1:12111/c/pay/cs_1?payment_intent=")
