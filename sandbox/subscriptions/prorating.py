"""Prorations: what is given back and what is charged for the rest of a period, to the second."""

import math
from fractions import Fraction

from sandbox.catalog import discounting
from sandbox.catalog.amounts import exact_amount
from sandbox.invoices.lines import charge_lines, is_metered, proration_line
from sandbox.state import Sandbox
from sandbox.store import Object


def share_of(amount: int | Fraction, part: int, whole: int) -> int:
    """Return `amount` × part / whole in minor units, rounded half up; seconds in, never below zero."""
    if whole <= 0 or part <= 0:
        return 0
    return math.floor(Fraction(amount) * min(part, whole) / whole + Fraction(1, 2))


def net_amounts(state: Sandbox, subscription: Object, items: list[Object]) -> dict[str, Fraction]:
    """Return what one full period of each licensed item costs after the discounts in force, by item id.

    Exact, as a share of it is rounded once.
    """
    at = state.now()
    lines: list[Object] = []
    for item in items:
        price = state.get("price", item["price"])
        if not is_metered(price):
            period = (item["current_period_start"], item["current_period_end"])
            for line in charge_lines(
                state, item, quantity=item["quantity"], period=period, currency=subscription["currency"]
            ):
                lines.append({**line, "_item": item["id"]})
    whole = [each for each in subscription["discounts"] if discounting.is_live(state, each, at=at)]
    trial = {
        "id": None,
        "currency": subscription["currency"],
        "customer": subscription["customer"],
        "discounts": whole,
        "lines": {"data": lines},
        "total_discount_amounts": [],
    }
    discounting.discount_lines(state, trial, at=at)
    nets = {
        item["id"]: Fraction(
            exact_amount(
                state.get("price", item["price"]), item["quantity"], currency=subscription["currency"]
            )
        )
        for item in items
        if "quantity" in item
    }
    for line in lines:
        nets[line["_item"]] -= sum(each["amount"] for each in line["discount_amounts"])
    return nets


def credit_line(state: Sandbox, item: Object, *, at: int, currency: str) -> Object | None:
    """Return the credit for what was billed of an item and is not used, None where nothing is left of it.

    Flexible billing mode reckons from the amount that was debited, not from today's price.
    """
    debit = item["_debit"]
    if debit is None or debit["amount"] == 0 or at >= debit["end"]:
        return None
    amount = -share_of(debit["amount"], debit["end"] - at, debit["end"] - debit["start"])
    if amount == 0:
        return None
    return proration_line(
        state,
        item,
        price=state.get("price", item["price"]),
        amount=amount,
        quantity=item.get("quantity", 1),
        period=(at, debit["end"]),
        currency=currency,
    )


def debit_line(
    state: Sandbox, item: Object, *, net: Fraction, at: int, period: tuple[int, int], currency: str
) -> Object | None:
    """Return the charge for the rest of a period at the item's new price, and note it on the item.

    `net` is the full period's cost after discounts. None where no time is left; what costs nothing has its line.
    """
    amount = share_of(net, period[1] - at, period[1] - period[0])
    item["_debit"] = {"amount": amount, "start": at, "end": period[1]}
    state.put(item)
    if at >= period[1]:
        return None
    return proration_line(
        state,
        item,
        price=state.get("price", item["price"]),
        amount=amount,
        quantity=item["quantity"],
        period=(at, period[1]),
        currency=currency,
    )
