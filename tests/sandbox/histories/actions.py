"""What may happen in a history: calls a seller or a customer makes, with time passing before each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import stripe
from hypothesis import strategies as st

from sandbox import Sandbox
from tests.sandbox.histories.model import (
    CATALOGUE,
    EXTRA,
    METERED,
    MONTHLY,
    WEEKLY,
    YEARLY,
    Offer,
    Usage,
)
from tests.sandbox.histories.money import Money

HOUR, DAY = 3600, 86400
WAITS = (0, 0, 0, 1, 2, 23, 24, 3 * 24, 7 * 24, 11 * 24, 14 * 24, 28 * 24, 45 * 24, 61 * 24)
LIVE = ("active", "trialing", "past_due", "unpaid", "incomplete")
BEHAVIOURS = ("create_prorations", "always_invoice", "none")
CARDS = (
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_chargeCustomerFail",
    "pm_card_visa_chargeDeclinedInsufficientFunds",
)
SETS: tuple[tuple[tuple[Offer, ...], ...], ...] = (
    (MONTHLY,),
    (MONTHLY,),
    (MONTHLY, METERED),
    (MONTHLY, METERED),
    (YEARLY, METERED),
    (YEARLY,),
    (METERED,),
    (WEEKLY,),
    (MONTHLY, EXTRA),
)


@dataclass(frozen=True)
class Step:
    """One happening: hours to wait, what to do, and numbers that choose among what is there."""

    wait: int
    do: str
    a: int
    b: int
    c: int


class World(Money):
    """One sandbox, one customer on a test clock, and everything known apart from the sandbox."""

    def __init__(self, sandbox: Sandbox, client: stripe.StripeClient, *, start: int) -> None:
        self.sandbox = sandbox
        self.api = client.v1
        self.now = start
        self.usage = Usage()
        self.refused: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        # Items whose old period went on unchanged below a new one, as `none` asks for.
        self.doubled: set[str] = set()
        # Items added without proration, which cost nothing until the next period.
        self.unbilled: set[str] = set()
        # Metered items whose price was changed without proration: what was used until then is never billed.
        self.forfeited: set[str] = set()
        self._last_event: tuple[str, int] | None = None
        self._sent = 0
        meter = self.api.billing.meters.create(
            {
                "display_name": "Requests",
                "event_name": "requests",
                "default_aggregation": {"formula": "sum"},
            }
        )
        self.meter_id: str = meter.id
        self.prices: dict[Offer, str] = {}
        for offer in CATALOGUE:
            self.prices[offer] = self.api.prices.create(offer.params(meter=meter.id)).id
        self.offers = {identifier: offer for offer, identifier in self.prices.items()}
        self.coupons = [
            self.api.coupons.create(each).id
            for each in (
                {"percent_off": 20, "duration": "forever"},
                {"percent_off": 50, "duration": "once"},
                {"amount_off": 700, "currency": "usd", "duration": "repeating", "duration_in_months": 3},
                {"percent_off": 100, "duration": "once"},
            )
        ]
        self.rate = self.api.tax_rates.create(
            {"display_name": "VAT", "percentage": 19, "inclusive": False}
        ).id
        self.clock = self.api.test_helpers.test_clocks.create({"frozen_time": start}).id
        self.customer = self.api.customers.create({"name": "Ada Lovelace", "test_clock": self.clock}).id
        self._pay_with("pm_card_visa")

    def take(self, step: Step) -> None:
        """Let a step's time pass and do it. What Stripe refuses is counted and no failure."""
        self.wait(step.wait * HOUR + step.b * 997 % HOUR)
        try:
            ACTIONS[step.do](self, step.a, step.b, step.c)
            self.done[step.do] += 1
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            if error.code == "sandbox_unsupported":
                raise
            self.refused[f"{step.do}: {error.user_message}"] += 1

    def wait(self, seconds: int) -> None:
        """Let time pass, at most two of the shortest interval at once."""
        target = self.now + seconds
        while self.now < target:
            weekly = any(
                self.offers[item.price.id].interval == "week"
                for each in self.subscriptions()
                for item in each["items"].data
            )
            self.now = min(self.now + (14 if weekly else 56) * DAY, target)
            self.api.test_helpers.test_clocks.advance(self.clock, {"frozen_time": self.now})
            status = self.api.test_helpers.test_clocks.retrieve(self.clock).status
            assert status == "ready", f"the clock is {status} after an advance"

    def subscriptions(self) -> list[Any]:
        """Return the subscriptions that have not ended, oldest first."""
        rows = self.api.subscriptions.list({"customer": self.customer, "limit": 100}).data
        return [each for each in rows[::-1] if each.status in LIVE]

    def invoices(self, *statuses: str) -> list[Any]:
        """Return the customer's invoices of some statuses, or all, oldest first."""
        found: list[Any] = []
        params: dict[str, Any] = {"customer": self.customer, "limit": 100}
        while True:
            page = self.api.invoices.list(params)
            found += page.data
            if not page.has_more:
                return [each for each in found[::-1] if not statuses or each.status in statuses]
            params["starting_after"] = page.data[-1].id

    def _pay_with(self, card: str) -> None:
        method = self.api.payment_methods.attach(card, {"customer": self.customer})
        self.api.customers.update(self.customer, {"invoice_settings": {"default_payment_method": method.id}})

    def chosen(self, a: int) -> Any | None:
        rows = self.subscriptions()
        return rows[a % len(rows)] if rows else None

    def licensed_items(self, subscription: Any) -> list[Any]:
        return [each for each in subscription["items"].data if not self.offers[each.price.id].metered]

    # What may be done. Each takes three numbers; one that finds nothing to do does nothing.

    def subscribe(self, a: int, b: int, c: int) -> None:
        if len(self.subscriptions()) >= 2:
            return
        items: list[dict[str, Any]] = []
        for offers in SETS[a % len(SETS)]:
            offer = offers[b % len(offers)]
            row: dict[str, Any] = {"price": self.prices[offer]}
            items.append(row if offer.metered else {**row, "quantity": 1 + c % 7})
        params: dict[str, Any] = {"customer": self.customer, "items": items}
        if c % 4 == 1:
            params["trial_period_days"] = (2, 14, 30)[b % 3]
        if b % 4 == 3:
            params["discounts"] = [{"coupon": self.coupons[c % len(self.coupons)]}]
        if b % 5 == 4:
            params["default_tax_rates"] = [self.rate]
        if c % 8 == 7:
            params["payment_behavior"] = "default_incomplete"
        self.api.subscriptions.create(params)

    def change_price(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        rows = self.licensed_items(subscription) if subscription else []
        if subscription is None or not rows:
            return
        item = rows[0]
        old = self.offers[item.price.id]
        group = YEARLY if old.interval == "year" else WEEKLY if old.interval == "week" else MONTHLY
        if c % 5 == 4 and old.interval != "week" and len(subscription["items"].data) == 1:
            group = MONTHLY if old.interval == "year" else YEARLY
        new, behaviour = group[b % len(group)], BEHAVIOURS[c % 3]
        self.api.subscriptions.update(
            subscription.id,
            {
                "items": [{"id": item.id, "price": self.prices[new]}],
                "proration_behavior": behaviour,
            },
        )
        if behaviour == "none" and new.interval != old.interval:
            self.doubled.add(item.id)

    def change_quantity(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        rows = self.licensed_items(subscription) if subscription else []
        if subscription is None or not rows:
            return
        row = {"id": rows[b % len(rows)].id, "quantity": 1 + (a + b) % 9}
        self.api.subscriptions.update(
            subscription.id, {"items": [row], "proration_behavior": BEHAVIOURS[c % 3]}
        )

    def add_item(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is None or len(subscription["items"].data) >= 3:
            return
        intervals = {self.offers[each.price.id].interval for each in subscription["items"].data}
        if intervals != {"month"}:
            return
        row = {"price": self.prices[EXTRA[b % 2]], "quantity": 1 + c % 3}
        known = {each.id for each in subscription["items"].data}
        changed = self.api.subscriptions.update(
            subscription.id, {"items": [row], "proration_behavior": BEHAVIOURS[c % 3]}
        )
        if BEHAVIOURS[c % 3] == "none":
            self.unbilled |= {each.id for each in changed["items"].data} - known

    def remove_item(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        rows = self.licensed_items(subscription) if subscription else []
        if subscription is None or len(rows) < 2:
            return
        row = {"id": rows[-1].id, "deleted": True}
        self.api.subscriptions.update(
            subscription.id, {"items": [row], "proration_behavior": BEHAVIOURS[c % 3]}
        )

    def cancel_at_period_end(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None:
            self.api.subscriptions.update(
                subscription.id, {"cancel_at_period_end": not subscription.cancel_at_period_end}
            )

    def change_usage_price(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        rows = [
            each
            for each in (subscription["items"].data if subscription else [])
            if self.offers[each.price.id].metered
        ]
        if subscription is not None and rows:
            row = {"id": rows[0].id, "price": self.prices[METERED[b % len(METERED)]]}
            self.api.subscriptions.update(
                subscription.id, {"items": [row], "proration_behavior": BEHAVIOURS[c % 3]}
            )
            if BEHAVIOURS[c % 3] == "none":
                self.forfeited.add(rows[0].id)

    def end_trial(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None and subscription.status == "trialing":
            self.api.subscriptions.update(subscription.id, {"trial_end": "now"})

    def cancel_at(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None:
            at: Any = "" if subscription.cancel_at else self.now + (1 + b * 3) * DAY + c
            self.api.subscriptions.update(
                subscription.id, {"cancel_at": at, "proration_behavior": BEHAVIOURS[c % 3]}
            )

    def cancel_now(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None:
            self.api.subscriptions.cancel(
                subscription.id, {"prorate": bool(b % 2), "invoice_now": bool(c % 2)}
            )

    def reset_anchor(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None and subscription.status == "active":
            self.api.subscriptions.update(
                subscription.id,
                {"billing_cycle_anchor": "now", "proration_behavior": BEHAVIOURS[c % 2]},
            )

    def change_card(self, a: int, b: int, c: int) -> None:
        self._pay_with(CARDS[a % len(CARDS)])

    def use(self, a: int, b: int, c: int) -> None:
        for number in range(1 + a % 4):
            at = max(self.now - (b * 5 + number) * 7 * HOUR * (c % 3), self.now - 34 * DAY)
            value, self._sent = 1 + a * 17 + number, self._sent + 1
            identifier = f"event-{self._sent}"
            self.api.billing.meter_events.create(
                {
                    "event_name": "requests",
                    "payload": {"stripe_customer_id": self.customer, "value": str(value)},
                    "identifier": identifier,
                    "timestamp": at,
                }
            )
            self.usage.add(identifier, at=at, value=value, now=self.now)
            self._last_event = (identifier, self.now)

    def take_usage_back(self, a: int, b: int, c: int) -> None:
        if self._last_event is None:
            return
        identifier, self._last_event = self._last_event[0], None
        self.api.billing.meter_event_adjustments.create(
            {"event_name": "requests", "type": "cancel", "cancel": {"identifier": identifier}}
        )
        self.usage.take_back(identifier)

    def schedule(self, a: int, b: int, c: int) -> None:
        """Agree on another price from the end of the period on."""
        subscription = self.chosen(a)
        if subscription is None or subscription.schedule or len(subscription["items"].data) != 1:
            return
        item = subscription["items"].data[0]
        old = self.offers[item.price.id]
        group = YEARLY if old.interval == "year" else WEEKLY if old.interval == "week" else MONTHLY
        if old.metered or subscription.status != "active":
            return
        made = self.api.subscription_schedules.create({"from_subscription": subscription.id})
        new = {"price": self.prices[group[b % len(group)]], "quantity": 1 + c % 5}
        self.api.subscription_schedules.update(
            made.id,
            {
                "end_behavior": "release",
                "phases": [
                    {
                        "items": [{"price": item.price.id, "quantity": item.quantity}],
                        "start_date": item.current_period_start,
                        "end_date": item.current_period_end,
                    },
                    {
                        "items": [new],
                        "start_date": item.current_period_end,
                        "duration": {"interval": old.interval, "interval_count": 1},
                    },
                ],
            },
        )

    def release(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None and subscription.schedule:
            self.api.subscription_schedules.release(subscription.schedule)

    def pause(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is None:
            return
        behaviour = ("void", "keep_as_draft", "mark_uncollectible")[b % 3]
        wanted: Any = "" if subscription.pause_collection else {"behavior": behaviour}
        self.api.subscriptions.update(subscription.id, {"pause_collection": wanted})

    def preview(self, a: int, b: int, c: int) -> None:
        subscription = self.chosen(a)
        if subscription is not None:
            self.api.invoices.create_preview({"subscription": subscription.id})


ACTIONS: dict[str, Callable[[World, int, int, int], None]] = {
    name: getattr(World, name)
    for name in (
        "subscribe",
        "change_price",
        "change_quantity",
        "add_item",
        "remove_item",
        "change_usage_price",
        "end_trial",
        "cancel_at_period_end",
        "cancel_at",
        "cancel_now",
        "reset_anchor",
        "change_card",
        "use",
        "take_usage_back",
        "pay",
        "void",
        "give_up",
        "credit",
        "refund",
        "adjust_balance",
        "schedule",
        "release",
        "pause",
        "preview",
    )
}
OFTEN = ("subscribe", "change_price", "change_quantity", "use", "use", "use", "pay", "change_card")

STEPS = st.builds(
    Step,
    wait=st.sampled_from(WAITS),
    do=st.sampled_from((*ACTIONS, *OFTEN, *OFTEN)),
    a=st.integers(0, 15),
    b=st.integers(0, 15),
    c=st.integers(0, 15),
)


def plans(least: int) -> st.SearchStrategy[list[Step]]:
    """Draw a plan of at least so many steps after the first, which is always a subscription."""
    first = st.builds(
        Step,
        wait=st.just(0),
        do=st.just("subscribe"),
        a=st.integers(0, 15),
        b=st.integers(0, 15),
        c=st.integers(0, 15),
    )
    return st.builds(lambda one, rest: [one, *rest], first, st.lists(STEPS, min_size=least, max_size=40))
