"""Cards that ask for 3-D Secure, and the page where their holder answers."""

from typing import Any
from urllib.parse import urlsplit

import stripe
from werkzeug.test import Client

from tests.sandbox.helpers import Shop

BACK = "http://127.0.0.1/done?order=7"
UNTIL_SET_UP = "pm_card_authenticationRequiredOnSetup"
ALWAYS = "pm_card_authenticationRequired"
SET_UP = "pm_card_authenticationRequiredSetupForOffSession"
NO_FUNDS = "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds"


def pay(shop: Shop, card: str, **params: Any) -> stripe.PaymentIntent:
    return shop.api.payment_intents.create(
        {
            "amount": 4900,
            "currency": "usd",
            "payment_method": card,
            "payment_method_types": ["card"],
            "confirm": True,
            **params,
        }
    )


def set_up(shop: Shop, card: str, customer: stripe.Customer, **params: Any) -> stripe.SetupIntent:
    return shop.api.setup_intents.create(
        {
            "customer": customer.id,
            "payment_method": card,
            "payment_method_types": ["card"],
            "confirm": True,
            **params,
        }
    )


def challenge_of(intent: stripe.PaymentIntent | stripe.SetupIntent) -> str:
    """Return path and query of the page an intent sends its payer to."""
    action = intent.next_action
    url = (
        action.redirect_to_url.url if action.type == "redirect_to_url" else action.use_stripe_sdk["stripe_js"]
    )
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def answer(browser: Client, intent: Any, result: str) -> Any:
    return browser.post(challenge_of(intent), data={"result": result})


def saved(shop: Shop, browser: Client, card: str) -> tuple[stripe.Customer, str]:
    """Return a customer and the card they set up, with the challenge passed where there was one."""
    customer = shop.customer()
    intent = set_up(shop, card, customer)
    if intent.status == "requires_action":
        answer(browser, intent, "complete")
    return customer, shop.api.setup_intents.retrieve(intent.id).payment_method
