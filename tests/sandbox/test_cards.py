"""Stripe's test cards by number and by name, and the ways in which a card comes and goes."""

import pytest
import stripe

from tests.sandbox.helpers import Shop

CARDS = [
    ("4242424242424242", "pm_card_visa"),
    ("4000000000000002", "pm_card_chargeDeclined"),
    ("4000000000000341", "pm_card_chargeCustomerFail"),
    ("4000000000009995", "pm_card_chargeDeclinedInsufficientFunds"),
    ("4000002500003155", "pm_card_authenticationRequiredOnSetup"),
]


def made(shop: Shop, number: str) -> str:
    card = {"number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123"}
    return shop.api.payment_methods.create({"type": "card", "card": card}).id


def outcome(shop: Shop, card: str) -> tuple[str, str | None]:
    """Attach a card to a customer and charge it; return how far it came and the reason it came no further."""
    customer = shop.customer()
    try:
        method = shop.api.payment_methods.attach(card, {"customer": customer.id})
    except stripe.CardError as error:
        return "not attached", error.error.decline_code
    try:
        intent = shop.api.payment_intents.create(
            {
                "amount": 4900,
                "currency": "usd",
                "customer": customer.id,
                "payment_method": method.id,
                "payment_method_types": ["card"],
                "confirm": True,
            }
        )
    except stripe.CardError as error:
        return "not charged", error.error.decline_code
    return intent.status, None


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("4242424242424242", ("succeeded", None)),
        ("4000000000000002", ("not attached", "generic_decline")),
        ("4000000000000341", ("not charged", "generic_decline")),
        ("4000000000009995", ("not attached", "insufficient_funds")),
        ("4000002500003155", ("requires_action", None)),
    ],
)
def test_a_test_card_does_what_its_number_says(
    shop: Shop, number: str, expected: tuple[str, str | None]
) -> None:
    assert outcome(shop, made(shop, number)) == expected


@pytest.mark.parametrize(("number", "name"), CARDS)
def test_a_cards_name_does_what_its_number_does(shop: Shop, number: str, name: str) -> None:
    assert outcome(shop, name) == outcome(shop, made(shop, number))


def test_a_card_taken_away_is_no_longer_its_customers_and_never_used_again(shop: Shop) -> None:
    customer = shop.payer()
    (card,) = shop.api.customers.payment_methods.list(customer.id).data
    assert shop.api.payment_methods.detach(card.id).customer is None
    assert shop.api.customers.payment_methods.list(customer.id).data == []
    assert shop.api.customers.retrieve(customer.id).invoice_settings.default_payment_method is None
    assert "payment_method.detached" in shop.event_types()
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        shop.api.payment_methods.attach(card.id, {"customer": customer.id})
