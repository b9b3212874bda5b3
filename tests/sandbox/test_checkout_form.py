"""The buttons of the Checkout form beside the one that pays, and what Enter does."""

import re

from werkzeug.test import Client

from tests.sandbox.helpers import GOOD_CARD, Shop


def offer_a_quarter_off(shop: Shop) -> None:
    coupon = shop.api.coupons.create({"percent_off": 25, "duration": "once"}).id
    shop.api.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon}, "code": "SAVE25"})


def test_a_code_that_was_typed_and_not_applied_counts_when_the_payer_confirms(
    shop: Shop, browser: Client
) -> None:
    offer_a_quarter_off(shop)
    session = shop.checkout(allow_promotion_codes=True)
    sent = {**GOOD_CARD, "email": "ada@example.com", "expected": "4900"}
    wrong = browser.post(session.url, data={**sent, "promotion_code": "NOPE"})
    assert (wrong.status_code, "This code is invalid" in wrong.text) == (422, True)
    shown = browser.post(session.url, data={**sent, "promotion_code": "SAVE25"})
    assert "The total has changed" in shown.text
    assert browser.post(session.url, data={**sent, "expected": "3675"}).status_code == 303
    assert shop.api.checkout.sessions.retrieve(session.id).amount_total == 3675


def test_enter_in_the_field_of_the_code_applies_it_and_asks_for_nothing_else(
    shop: Shop, browser: Client
) -> None:
    offer_a_quarter_off(shop)
    session = shop.checkout(allow_promotion_codes=True)
    page = browser.post(session.url, data={"promotion_code": "SAVE25", "expected": "4900"})
    assert page.status_code == 200
    assert "$36.75" in page.text
    assert "Enter a card number" not in page.text


def test_a_quantity_is_updated_before_the_address_is_known(shop: Shop, browser: Client) -> None:
    line = {"price": shop.price().id, "quantity": 1, "adjustable_quantity": {"enabled": True, "maximum": 9}}
    session = shop.checkout(lines=[line], billing_address_collection="required")
    (name,) = re.findall(r'name="(quantity_\w+)"', browser.get(session.url).text)
    page = browser.post(session.url, data={name: "3", "action": "quantity"})
    assert page.status_code == 200
    assert "$147.00" in page.text
    refused = browser.post(session.url, data={name: "10", "action": "quantity"})
    assert "Choose a quantity from 0 to 9" in refused.text
    assert "Choose a country" not in refused.text
