"""What tests of Checkout share: things to sell, codes, a tax that applies, the bank's page."""

from typing import Any

import stripe
from werkzeug.test import Client

from tests.sandbox.helpers import Shop

BERLIN = {"line1": "Hauptstr. 1", "city": "Berlin", "postal_code": "10115", "country": "DE"}


def one_time(shop: Shop, amount: int = 1500, **params: Any) -> stripe.Price:
    product = shop.api.products.create({"name": "Setup"})
    return shop.api.prices.create({"product": product.id, "currency": "usd", "unit_amount": amount, **params})


def code(shop: Shop, *, text: str = "SAVE25", promotion: dict[str, Any] | None = None, **coupon: Any) -> Any:
    made = shop.api.coupons.create({"percent_off": 25, "duration": "once", **coupon})
    return shop.api.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": made.id}, "code": text, **(promotion or {})}
    )


def charge_tax_in_germany(shop: Shop) -> None:
    """Let automatic tax charge 19% to buyers in Germany."""
    shop.api.tax.settings.update(
        {
            "head_office": {
                "address": {"country": "DE", "line1": "x", "city": "Berlin", "postal_code": "10115"}
            },
            "defaults": {"tax_behavior": "exclusive", "tax_code": "txcd_10103001"},
        }
    )
    shop.api.tax.registrations.create(
        {
            "country": "DE",
            "country_options": {
                "de": {"type": "standard", "standard": {"place_of_supply_scheme": "standard"}}
            },
            "active_from": "now",
        }
    )


def authenticate(browser: Client, answer: Any, *, result: str) -> Any:
    """Go through the bank's page and back to the one that asked for it."""
    return browser.get(browser.post(answer.location, data={"result": result}).location)
