"""A customer on a clock of their own, and the shorthand in which the worked examples are told."""

import datetime
from typing import Any

import stripe

HOUR = 3600
DAY = 86400


def at(text: str) -> int:
    """Return the unix second of an ISO date or time, UTC."""
    moment = datetime.datetime.fromisoformat(text)
    return int(moment.replace(tzinfo=datetime.UTC).timestamp())


def day(second: int) -> str:
    """Return the ISO date of a unix second, which must be midnight UTC."""
    moment = datetime.datetime.fromtimestamp(second, tz=datetime.UTC)
    assert (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.date().isoformat()


class Life:
    """One customer on a test clock, who pays with a card that works."""

    def __init__(
        self, client: stripe.StripeClient, *, start: str = "2026-04-01", card: str | None = "pm_card_visa"
    ) -> None:
        self.api = client.v1
        self.now = at(start)
        # No advance may pass over more than two of the shortest interval.
        self.stride = 28 * DAY
        self.clock = self.api.test_helpers.test_clocks.create({"frozen_time": self.now})
        self.customer = self.api.customers.create(
            {"email": "ada@example.com", "name": "Ada Lovelace", "test_clock": self.clock.id}
        )
        if card:
            self.pay_with(card)

    def pay_with(self, card: str) -> stripe.PaymentMethod:
        """Attach a card and make it the one that invoices are charged to."""
        method = self.api.payment_methods.attach(card, {"customer": self.customer.id})
        self.api.customers.update(
            self.customer.id, {"invoice_settings": {"default_payment_method": method.id}}
        )
        return method

    def advance(self, to: str | int) -> None:
        """Let time pass, in strides that the clock allows."""
        target = at(to) if isinstance(to, str) else to
        while self.now < target:
            self.now = min(self.now + self.stride, target)
            self.api.test_helpers.test_clocks.advance(self.clock.id, {"frozen_time": self.now})
            clock = self.api.test_helpers.test_clocks.retrieve(self.clock.id)
            assert (clock.status, clock.frozen_time) == ("ready", self.now)

    def price(self, amount: int | None = 3000, *, interval: str = "month", **params: Any) -> stripe.Price:
        recurring = {"interval": interval, **params.pop("recurring", {})}
        money = {} if amount is None else {"unit_amount": amount}
        return self.api.prices.create(
            {
                "product_data": {"name": "Pro"},
                "currency": "usd",
                "recurring": recurring,
                **money,
                **params,
            }
        )

    def meter(self, formula: str = "sum") -> Any:
        return self.api.billing.meters.create(
            {
                "display_name": "Requests",
                "event_name": "requests",
                "default_aggregation": {"formula": formula},
            }
        )

    def metered_price(self, meter: Any, **params: Any) -> stripe.Price:
        amount = None if {"unit_amount_decimal", "tiers"} & set(params) else 10
        return self.price(amount, recurring={"usage_type": "metered", "meter": meter.id}, **params)

    def use(self, value: int, when: str | None = None, *, identifier: str | None = None) -> None:
        """Report usage, now or at a time."""
        stamp = {} if when is None else {"timestamp": at(when)}
        name = {} if identifier is None else {"identifier": identifier}
        self.api.billing.meter_events.create(
            {
                "event_name": "requests",
                "payload": {"stripe_customer_id": self.customer.id, "value": str(value)},
                **stamp,
                **name,
            }
        )

    def subscribe(self, *items: Any, **params: Any) -> Any:
        """Subscribe to prices, or to items written out."""
        rows = [each if type(each) is dict else {"price": each.id} for each in items]
        return self.api.subscriptions.create({"customer": self.customer.id, "items": rows, **params})

    def change(
        self, subscription: Any, price: Any = None, *, quantity: int | None = None, **params: Any
    ) -> Any:
        """Change the first item of a subscription: its price, its quantity or both."""
        item = {"id": subscription["items"].data[0].id}
        item |= {"price": price.id} if price is not None else {}
        item |= {"quantity": quantity} if quantity is not None else {}
        return self.api.subscriptions.update(subscription.id, {"items": [item], **params})

    def again(self, subscription: Any) -> Any:
        return self.api.subscriptions.retrieve(subscription.id)

    def invoices(self) -> list[Any]:
        """Return the customer's invoices, oldest first."""
        return self.api.invoices.list({"customer": self.customer.id, "limit": 100}).data[::-1]

    def last(self) -> Any:
        return self.invoices()[-1]

    def totals(self) -> list[int]:
        return [each.total for each in self.invoices()]

    def balance(self) -> int:
        return self.api.customers.retrieve(self.customer.id).balance

    def events(self, kind: str) -> list[Any]:
        """Return the events of a type, oldest first."""
        return self.api.events.list({"type": kind, "limit": 100}).data[::-1]


def amounts(invoice: Any) -> list[int]:
    """Return the amounts of an invoice's lines, smallest first."""
    return sorted(line.amount for line in invoice.lines.data)


def period(subscription: Any) -> tuple[str, str]:
    """Return the days on which the first item's current period begins and ends."""
    item = subscription["items"].data[0]
    return day(item.current_period_start), day(item.current_period_end)
