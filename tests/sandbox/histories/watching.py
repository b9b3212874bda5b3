"""What every event must hold to, checked as it is told."""

from __future__ import annotations

from typing import Any

from sandbox.store import copied
from tests.sandbox.histories.actions import World

Object = dict[str, Any]

SUBSCRIPTION_MOVES = {
    None: {"incomplete", "active", "trialing"},
    "incomplete": {"active", "incomplete_expired"},
    "trialing": {"active", "past_due", "paused", "canceled"},
    "active": {"past_due", "unpaid", "canceled", "trialing"},
    # A trial may begin with an invoice, of what the balance owed.
    "past_due": {"active", "trialing", "unpaid", "canceled"},
    "unpaid": {"active", "canceled"},
    "paused": {"active", "canceled"},
    "canceled": set(),
    "incomplete_expired": set(),
}
INVOICE_MOVES = {
    # What begins and goes on in one change is told of in its later state only.
    None: {"draft"},
    "draft": {"open", "paid", "void", "uncollectible"},
    "open": {"paid", "void", "uncollectible"},
    "uncollectible": {"paid", "void"},
    "paid": set(),
    "void": set(),
}
MOVES = {"subscription": SUBSCRIPTION_MOVES, "invoice": INVOICE_MOVES}
# Told of in the object of an event, though no event is made when they change.
SILENT = {"invoice": {"webhooks_delivered_at"}, "customer": {"next_invoice_sequence", "currency"}}


def rewound(now: Any, previous: Any) -> Any:
    """Return an object as it was, from what it is and an event's previous_attributes."""
    if not isinstance(previous, dict) or not isinstance(now, dict) or "object" in previous:
        return previous
    return {**now, **{name: rewound(now.get(name), each) for name, each in previous.items()}}


def without(obj: Object, names: set[str]) -> Object:
    # A key that was not there shows as null in previous_attributes.
    return {name: each for name, each in obj.items() if name not in names and each is not None}


class Watch:
    """Sees each event as the sandbox tells it, and fails on the first that says something untrue."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.latest: dict[tuple[str, str], Object] = {}
        self.first_seen: dict[str, int] = {}
        # Of each subscription item, the periods it was ever in and its subscription.
        self.periods: dict[str, set[tuple[int, int]]] = {}
        self.owner: dict[str, str] = {}
        self.removed: dict[str, int] = {}
        self.discounted: set[str] = set()
        self.trial_ends: dict[str, int] = {}
        # Of each item, the price it had last.
        self.prices: dict[str, str] = {}
        self.seen = 0
        self.failure: AssertionError | None = None
        self._created = 0
        customer = world.api.customers.retrieve(world.customer)
        self.latest["customer", world.customer] = customer.to_dict(for_json=True)

    def saw(self, event: Object) -> None:
        """Check one event."""
        self.seen += 1
        obj = copied(event["data"]["object"])
        kind = obj["object"]
        key = (kind, str(obj.get("id")))
        self._check_time(event, obj)
        before = self.latest.get(key)
        if kind in MOVES:
            self._check_move(event, obj, before)
        if before is not None:
            self._check_previous(event, obj, before)
        if kind == "invoice":
            check_invoice(obj, where=event["type"])
            if event["type"] == "invoice.finalized":
                self._check_usage(obj)
        if kind == "subscription":
            self._follow(event, obj)
        self.latest[key] = obj

    def _check_time(self, event: Object, obj: Object) -> None:
        if obj.get("customer") == self.world.customer or obj.get("id") == self.world.customer:
            assert event["created"] >= self._created, f"{event['type']} was told before its time"
            self._created = event["created"]

    def _check_move(self, event: Object, obj: Object, before: Object | None) -> None:
        old = before["status"] if before else None
        new = obj["status"]
        if old != new:
            allowed = MOVES[obj["object"]][old]
            assert new in allowed, f"{event['type']}: a {obj['object']} went from {old} to {new}"

    def _check_previous(self, event: Object, obj: Object, before: Object) -> None:
        silent = SILENT.get(obj["object"], set())
        previous = event["data"].get("previous_attributes")
        if event["type"].endswith(".updated") and obj["object"] in ("subscription", "invoice", "customer"):
            assert previous, f"{event['type']} names nothing that changed"
        if previous is None:
            return
        old, known = without(rewound(obj, previous), silent), without(before, silent)
        changed = {name for name in {**old, **known} if old.get(name) != known.get(name)}
        assert not changed, (
            f"{event['type']}: previous_attributes do not lead back to what was told before: "
            + "; ".join(
                f"{name} was {known.get(name)!r}, is said to be {old.get(name)!r}" for name in changed
            )
        )

    def _check_usage(self, invoice: Object) -> None:
        """Metered lines bill what was reported for their period by now."""
        counted: dict[tuple[str, int, int], int] = {}
        for line in invoice["lines"]["data"]:
            offer = self.world.offers.get(price_of(line) or "")
            if offer is not None and offer.metered:
                item = line["parent"]["subscription_item_details"]["subscription_item"]
                key = (item, line["period"]["start"], line["period"]["end"])
                counted[key] = counted.get(key, 0) + line["quantity"]
        for (item, start, end), quantity in counted.items():
            used = self.world.usage.between(start, end)
            assert quantity == used, f"{item} was billed {quantity} for {used} used from {start} to {end}"

    def _follow(self, event: Object, subscription: Object) -> None:
        now = event["created"]
        kept = set()
        for item in subscription["items"]["data"]:
            kept.add(item["id"])
            self.first_seen.setdefault(item["id"], item["created"])
            self.owner[item["id"]] = subscription["id"]
            self.prices[item["id"]] = item["price"]["id"]
            self.periods.setdefault(item["id"], set()).add(
                (item["current_period_start"], item["current_period_end"])
            )
        for item, owner in self.owner.items():
            if owner == subscription["id"] and item not in kept:
                self.removed.setdefault(item, now)
        if subscription["discounts"]:
            self.discounted.add(subscription["id"])
        if subscription["trial_end"]:
            self.trial_ends[subscription["id"]] = subscription["trial_end"]


def price_of(line: Object) -> str | None:
    """Return the id of a line's price."""
    details = (line.get("pricing") or {}).get("price_details") or {}
    price = details.get("price")
    return price if isinstance(price, str) else None


def check_invoice(invoice: Object, *, where: str) -> None:
    """Every amount of an invoice follows from its lines, discounts, taxes, balance and credit notes."""
    lines = invoice["lines"]["data"]
    if invoice["lines"]["has_more"]:
        return
    name = f"{where} {invoice['id']}"
    off = sum(each["amount"] for each in invoice["total_discount_amounts"] or [])
    # What is taken off single items is off the subtotal already.
    whole = set(invoice.get("discounts") or [])
    off_items = sum(
        each["amount"] for each in invoice["total_discount_amounts"] or [] if each["discount"] not in whole
    )
    tax = sum(each["amount"] for each in invoice["total_taxes"] or [])
    on_top = sum(
        each["amount"] for each in invoice["total_taxes"] or [] if each["tax_behavior"] == "exclusive"
    )
    assert invoice["subtotal"] == sum(line["amount"] for line in lines) - off_items, f"{name}: subtotal"
    assert off == sum(each["amount"] for line in lines for each in line["discount_amounts"] or []), (
        f"{name}: discounts"
    )
    assert tax == sum(each["amount"] for line in lines for each in line["taxes"] or []), f"{name}: taxes"
    assert invoice["total"] == invoice["subtotal"] - (off - off_items) + on_top, f"{name}: total"
    assert invoice["total_excluding_tax"] == invoice["total"] - tax, f"{name}: total_excluding_tax"
    if invoice["status"] == "draft":
        return
    due, paid, remaining = invoice["amount_due"], invoice["amount_paid"], invoice["amount_remaining"]
    noted = invoice["pre_payment_credit_notes_amount"]
    assert min(due, paid, remaining) >= 0, f"{name}: an amount is negative"
    if invoice["status"] != "void":
        before, after = invoice["starting_balance"], invoice["ending_balance"]
        assert before + invoice["total"] == due + noted + after, (
            f"{name}: balance {before} + total {invoice['total']} is not due {due} + noted {noted} + balance {after}"
        )
    elsewhere = invoice.get("amount_paid_off_stripe") or 0
    assert remaining == max(due - paid - elsewhere, 0), (
        f"{name}: {remaining} remain of {due} with {paid} paid and {elsewhere} paid elsewhere"
    )
    if invoice["status"] == "paid":
        assert remaining == 0, f"{name}: paid, and {remaining} remain"
    if invoice["status"] == "open":
        assert paid < due or due == 0, f"{name}: open, and nothing remains"
