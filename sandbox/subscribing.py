"""The life of a subscription: start, change of price, cancel. Shared by the API and Checkout."""

import decimal
from dataclasses import dataclass, field
from typing import Any

from sandbox.amounts import line_amount, money_text, rounded
from sandbox.cards import Decline
from sandbox.clock import add_interval
from sandbox.errors import ApiError
from sandbox.invoicing import collect, draft_invoice, finalize, new_line, void
from sandbox.state import Sandbox
from sandbox.store import Object

ENDED = ("canceled", "incomplete_expired")
LIVE = ("active", "trialing", "past_due", "unpaid", "incomplete", "paused")


@dataclass
class Wanted:
    """One price to subscribe to. Metered prices carry no quantity."""

    price: Object
    quantity: int | None = 1
    metadata: dict[str, str] = field(default_factory=dict)

    def amount(self) -> int:
        """Return what one period costs up front, in minor units."""
        return 0 if is_metered(self.price) else line_amount(self.price, self.quantity or 0)


def is_metered(price: Object) -> bool:
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def items_of(state: Sandbox, subscription: Object) -> list[Object]:
    """Return the subscription's items in the order they were added, to be read and not changed."""
    return [
        each for identifier in subscription["_items"] if (each := state.find("subscription_item", identifier))
    ]


def build(
    state: Sandbox, *, customer: Object, wanted: list[Wanted], trial_end: int | None = None, **fields: Any
) -> Object:
    """Store and return a subscription with its items, status `incomplete` or `trialing`, not yet told of.

    Raises ApiError for prices that cannot share one subscription.
    """
    _check_together(wanted)
    now = state.now()
    subscription = state.new(
        "subscription",
        application=None,
        application_fee_percent=None,
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None},
        billing_cycle_anchor=trial_end or now,
        billing_cycle_anchor_config=None,
        billing_mode={"flexible": {"proration_discounts": "included"}, "type": "flexible", "updated_at": now},
        billing_schedules=[],
        billing_thresholds=None,
        cancel_at=None,
        cancel_at_period_end=False,
        canceled_at=None,
        cancellation_details={"comment": None, "feedback": None, "reason": None},
        collection_method="charge_automatically",
        currency=wanted[0].price["currency"],
        customer=customer["id"],
        customer_account=None,
        days_until_due=None,
        default_payment_method=None,
        default_source=None,
        default_tax_rates=[],
        description=None,
        discounts=[],
        ended_at=None,
        invoice_settings={"account_tax_ids": None, "issuer": {"type": "self"}},
        latest_invoice=None,
        metadata={},
        next_pending_invoice_item_invoice=None,
        on_behalf_of=None,
        pause_collection=None,
        payment_settings={
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        pending_invoice_item_interval=None,
        pending_setup_intent=None,
        pending_update=None,
        schedule=None,
        start_date=now,
        status="trialing" if trial_end else "incomplete",
        test_clock=None,
        transfer_data=None,
        trial_end=trial_end,
        trial_settings={"end_behavior": {"missing_payment_method": "create_invoice"}},
        trial_start=now if trial_end else None,
        _items=[],
        _pending_lines=[],
    )
    subscription.update(fields)
    for each in wanted:
        subscription["_items"].append(_new_item(state, subscription, each, trial_end=trial_end)["id"])
    return state.put(subscription)


def _check_together(wanted: list[Wanted]) -> None:
    if any(each.price["type"] != "recurring" for each in wanted):
        one_off = next(each.price["id"] for each in wanted if each.price["type"] != "recurring")
        raise ApiError(
            f"The price specified is set to `type=one_time` but this field only accepts prices with "
            f"`type=recurring`: {one_off}.",
            param="items[0][price]",
        )
    if len({each.price["currency"] for each in wanted}) > 1:
        raise ApiError("All prices on a subscription must use the same currency.", param="items")
    if len({each.price["id"] for each in wanted}) < len(wanted):
        raise ApiError("Cannot add multiple subscription items with the same plan.", param="items")
    for index, each in enumerate(wanted):
        if is_metered(each.price) and each.quantity is not None:
            raise ApiError(
                "Quantity should not be specified where usage_type is `metered`. Remove quantity from "
                f"`items[{index}]`.",
                param=f"items[{index}][quantity]",
            )


def _new_item(state: Sandbox, subscription: Object, wanted: Wanted, *, trial_end: int | None) -> Object:
    start = state.now()
    recurring = wanted.price["recurring"]
    end = trial_end or add_interval(start, interval=recurring["interval"], count=recurring["interval_count"])
    item = {
        "id": state.new_id("subscription_item"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": start,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": dict(wanted.metadata),
        "price": wanted.price["id"],
        "subscription": subscription["id"],
        "tax_rates": [],
    }
    if not is_metered(wanted.price):
        item["quantity"] = wanted.quantity
    return state.put(item)


def first_invoice(state: Sandbox, subscription: Object, *, customer: Object) -> Object | None:
    """Finalize and return the first invoice, or None where it would be empty (metered prices only).

    Flexible billing mode puts no line for a metered item on the invoice that starts a subscription.
    """
    trial = subscription["trial_end"]
    lines = []
    for item in items_of(state, subscription):
        price = state.get("price", item["price"])
        if is_metered(price):
            continue
        amount = 0 if trial else line_amount(price, item["quantity"])
        lines.append(
            new_line(
                state,
                invoice=None,
                item=item,
                price=price,
                amount=amount,
                quantity=item["quantity"],
                period=(item["current_period_start"], item["current_period_end"]),
                description=_description(state, price, item["quantity"], trial=bool(trial)),
            )
        )
    if not lines:
        return None
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_create",
        period=(state.now(), state.now()),
    )
    finalize(state, invoice)
    subscription["latest_invoice"] = invoice["id"]
    state.put(subscription)
    return invoice


def _description(state: Sandbox, price: Object, quantity: int, *, trial: bool) -> str:
    name = (state.find("product", price["product"]) or {}).get("name")
    if trial:
        return f"Free trial for {quantity} × {name}"
    recurring = price["recurring"]
    each = money_text(line_amount(price, 1), price["currency"])
    every = (
        recurring["interval"]
        if recurring["interval_count"] == 1
        else (f"{recurring['interval_count']} {recurring['interval']}s")
    )
    return f"{quantity} × {name} (at {each} / {every})"


def settle(
    state: Sandbox, subscription: Object, invoice: Object | None, method: Object | None
) -> Decline | None:
    """Collect the first invoice and set the status by what came of it: active, trialing or incomplete."""
    decline = None
    if invoice is not None and (invoice["amount_due"] == 0 or method is not None):
        decline = collect(state, invoice, method)
    paid = invoice is None or invoice["status"] == "paid"
    if subscription["status"] == "incomplete" and paid:
        subscription["status"] = "active"
    state.put(subscription)
    return decline


def paying_method(state: Sandbox, subscription: Object, *, customer: Object) -> Object | None:
    """Return the card a subscription charges: its own default, else the customer's."""
    chosen = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    return state.find("payment_method", chosen) if chosen else None


def end_subscription(
    state: Sandbox,
    subscription: Object,
    *,
    reason: str,
    feedback: str | None = None,
    comment: str | None = None,
) -> None:
    """End a subscription at once: canceled, or incomplete_expired where it never began."""
    now = state.now()
    never_paid = subscription["status"] == "incomplete"
    subscription.update(
        status="incomplete_expired" if never_paid else "canceled",
        ended_at=now,
        canceled_at=subscription["canceled_at"] or now,
    )
    subscription["cancellation_details"] = {"comment": comment, "feedback": feedback, "reason": reason}
    state.put(subscription)
    invoice = (
        state.find("invoice", subscription["latest_invoice"]) if subscription["latest_invoice"] else None
    )
    if never_paid and invoice is not None and invoice["status"] == "open":
        void(state, invoice)
    state.emit("customer.subscription.deleted", subscription)


def proration_lines(
    state: Sandbox, item: Object, *, old: Object, old_quantity: int, new: Object, new_quantity: int, at: int
) -> list[Object]:
    """Return the credit for the rest of a period and the charge for it at the new price, by the second."""
    start, end = item["current_period_start"], item["current_period_end"]
    share = decimal.Decimal(max(end - at, 0)) / decimal.Decimal(end - start)
    lines = []
    for price, quantity, sign, words in (
        (old, old_quantity, -1, "Unused time on"),
        (new, new_quantity, 1, "Remaining time on"),
    ):
        if is_metered(price):
            continue
        name = (state.find("product", price["product"]) or {}).get("name")
        amount = sign * rounded(line_amount(price, quantity) * share)
        lines.append(
            new_line(
                state,
                invoice=None,
                item=item,
                price=price,
                amount=amount,
                quantity=quantity,
                period=(at, end),
                description=f"{words} {quantity} × {name}",
                proration=True,
            )
        )
    return lines


def invoice_pending(state: Sandbox, subscription: Object, *, customer: Object) -> Decline | None:
    """Invoice the prorations waiting on a subscription now, and collect. Returns why that failed, else None.

    An invoice below zero is left at nothing due; the credit stays on the customer's balance.
    """
    lines, subscription["_pending_lines"] = subscription["_pending_lines"], []
    if not lines:
        return None
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_update",
        period=(state.now(), state.now()),
    )
    if invoice["total"] < 0:
        customer["balance"] += invoice["total"]
        state.put(customer)
    finalize(state, invoice)
    subscription["latest_invoice"] = invoice["id"]
    state.put(subscription)
    method = paying_method(state, subscription, customer=customer)
    if invoice["amount_due"] > 0 and method is None:
        return None
    return collect(state, invoice, method)
