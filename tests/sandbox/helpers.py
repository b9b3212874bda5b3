"""What most tests start from: something to sell and someone to sell it to."""

from typing import Any

import stripe

KEY = "sk_test_0123456789abcdefghijklmnop"
GOOD_CARD = {"number": "4242 4242 4242 4242", "expiry": "12 / 40", "cvc": "123", "name": "Ada Lovelace"}
DECLINED_CARD = {**GOOD_CARD, "number": "4000000000000002"}
CHALLENGED = {**GOOD_CARD, "number": "4000002500003155"}


class Shop:
    """A seller's shorthand for creating things through the API."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self.api = client.v1

    def customer(self, **params: Any) -> stripe.Customer:
        return self.api.customers.create({"email": "ada@example.com", **params})

    def payer(self, card: str = "pm_card_visa") -> stripe.Customer:
        """Return a customer whose card pays for subscriptions."""
        customer = self.customer()
        method = self.api.payment_methods.attach(card, {"customer": customer.id})
        return self.api.customers.update(
            customer.id, {"invoice_settings": {"default_payment_method": method.id}}
        )

    def price(self, amount: int = 4900, **params: Any) -> stripe.Price:
        product = params.pop("product", None) or self.api.products.create({"name": "Pro"}).id
        return self.api.prices.create(
            {
                "product": product,
                "currency": "usd",
                "unit_amount": amount,
                "recurring": {"interval": "month"},
                **params,
            }
        )

    def meter(self) -> Any:
        return self.api.billing.meters.create(
            {"display_name": "Requests", "event_name": "requests", "default_aggregation": {"formula": "sum"}}
        )

    def metered_price(self, meter: Any) -> stripe.Price:
        return self.api.prices.create(
            {
                "product": self.api.products.create({"name": "Requests"}).id,
                "currency": "usd",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": [
                    {"up_to": 10_000, "unit_amount": 0},
                    {"up_to": "inf", "unit_amount_decimal": "0.05"},
                ],
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
            }
        )

    def checkout(self, *, lines: list[dict[str, Any]] | None = None, **params: Any) -> Any:
        return self.api.checkout.sessions.create(
            {
                "mode": "subscription",
                "line_items": lines or [{"price": self.price().id, "quantity": 1}],
                "success_url": "http://127.0.0.1/done?session={CHECKOUT_SESSION_ID}",
                "cancel_url": "http://127.0.0.1/pricing",
                **params,
            }
        )

    def subscription(self, customer: stripe.Customer, price: stripe.Price, **params: Any) -> Any:
        return self.api.subscriptions.create(
            {"customer": customer.id, "items": [{"price": price.id}], **params}
        )

    def event_types(self) -> list[str]:
        """Return the types of all events so far, oldest first."""
        return [event.type for event in self.api.events.list({"limit": 100}).data][::-1]
