"""The workbench of a probe: it makes things under a name of its own, waits for them, and clears them away."""

import time
from collections.abc import Callable
from typing import Any

import stripe

from accounts.clock import now
from billing.stripe.checking.clearing import clear

CARD = "pm_card_visa"
FAILING_CARD = "pm_card_chargeCustomerFail"  # It can be kept, and every charge of it is declined.
CURRENCY = "usd"


class NotInTime(Exception):
    """Stripe has not got as far as it was waited for; the text says what for."""


class Bench:
    """Makes what a probe needs at one account.

    All that it makes is found again by `mark`, also where Stripe's answer to making it was lost.
    """

    def __init__(
        self,
        client: stripe.StripeClient,
        *,
        mark: str,
        start: int,
        patience: float,
        restricted: stripe.StripeClient | None = None,
        pause: float = 2.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.mark, self.start = client, mark, start
        self.patience, self.pause, self.sleep = patience, pause, sleep
        self.restricted = restricted
        self.began = self.present() - 3_600  # Stripe's clock need not be ours to the minute.
        self._clock: Any = None

    @property
    def v1(self) -> Any:
        return self.client.v1

    def clear(self) -> list[str]:
        """Remove all of it; return what could not be removed."""
        return clear(self.client, self.mark, since=self.began, pause=self.pause)

    def clock(self) -> str:
        """Return the test clock, which starts at `start`."""
        if self._clock is None:
            self._clock = self.v1.test_helpers.test_clocks.create(
                {"frozen_time": self.start, "name": self.mark}
            )
        return str(self._clock.id)

    def advance(self, to: int) -> None:
        """Move the test clock and wait until it has arrived. Raises NotInTime."""
        clocks = self.v1.test_helpers.test_clocks
        clocks.advance(self.clock(), {"frozen_time": to})

        def arrived() -> bool:
            return bool(clocks.retrieve(self.clock()).status == "ready")

        self.wait(arrived, what="the test clock to arrive")

    def wait(self, done: Callable[[], bool], *, what: str) -> float:
        """Wait until it is done; return the seconds that took. Raises NotInTime after `patience` seconds."""
        began = time.monotonic()
        while not done():
            if time.monotonic() - began > self.patience:
                raise NotInTime(f"waited {self.patience:.0f} seconds for {what}")
            self.sleep(self.pause)
        return time.monotonic() - began

    def present(self) -> int:
        """Return the time outside the test clock."""
        return int(now().timestamp())

    def customer(self, *, card: str | None = CARD, on_clock: bool = True) -> str:
        params: dict[str, Any] = {"email": email_of(self.mark), "name": self.mark}
        if on_clock:
            params["test_clock"] = self.clock()
        customer = self.v1.customers.create(params)
        if card:
            self.give_card(customer.id, card)
        return str(customer.id)

    def give_card(self, customer: str, card: str) -> None:
        """Let the customer pay by this card from now on."""
        method = self.v1.payment_methods.attach(card, {"customer": customer})
        self.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method.id}})

    def meter(self) -> Any:
        return self.v1.billing.meters.create(
            {
                "display_name": self.mark,
                "event_name": event_name_of(self.mark),
                "default_aggregation": {"formula": "sum"},
                "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                "value_settings": {"event_payload_key": "value"},
            }
        )

    def product(self, name: str) -> str:
        product = self.v1.products.create(
            {"id": f"{self.mark}-{name}", "name": name, "metadata": {"tollgate_check": self.mark}}
        )
        return str(product.id)

    def price(self, product: str, amount: int, *, interval: str = "month", meter: str | None = None) -> str:
        recurring = {"interval": interval} | ({"usage_type": "metered", "meter": meter} if meter else {})
        price = self.v1.prices.create(
            {"product": product, "currency": CURRENCY, "unit_amount": amount, "recurring": recurring}
        )
        return str(price.id)

    def subscribe(self, customer: str, *prices: str) -> Any:
        return self.v1.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price": price} for price in prices],
                "billing_mode": {"type": "flexible"},
            }
        )

    def use(self, customer: str, units: int, *, at: int, identifier: str) -> Any:
        return self.v1.billing.meter_events.create(
            {
                "event_name": event_name_of(self.mark),
                "payload": {"stripe_customer_id": customer, "value": str(units)},
                "identifier": f"{self.mark}-{identifier}",
                "timestamp": at,
            }
        )

    def counted(self, meter: str, customer: str, *, start: int, end: int) -> int:
        """Return the units in Stripe's summaries of these minutes."""
        found = self.v1.billing.meters.event_summaries.list(
            meter,
            {
                "customer": customer,
                "start_time": start // 60 * 60,
                "end_time": -(-end // 60) * 60,
                "limit": 100,
            },
        )
        return int(sum(each.aggregated_value for each in found.data))

    def wait_for_usage(self, meter: str, customer: str, units: int, *, start: int, end: int) -> float:
        """Wait until the summaries show this many units; return the seconds. Raises NotInTime."""

        def shown() -> bool:
            return self.counted(meter, customer, start=start, end=end) >= units

        return self.wait(shown, what=f"{units} units to show in the meter's summaries")

    def invoices(self, subscription: str) -> list[Any]:
        """Return the subscription's invoices, the oldest first."""
        return list(self.v1.invoices.list({"subscription": subscription, "limit": 100}).data)[::-1]

    def items(self, subscription: str) -> dict[str, Any]:
        """Return the subscription's items as they are now, by the id of their price."""
        found = self.v1.subscriptions.retrieve(subscription)
        return {item["price"]["id"]: item for item in found["items"]["data"]}


def email_of(mark: str) -> str:
    return f"{mark}@example.com"


def event_name_of(mark: str) -> str:
    return mark.replace("-", "_")
