"""Metered usage on invoices: in arrears, for the period that closed."""

from sandbox.invoices.lines import charge_lines
from sandbox.meters.metering import usage_between
from sandbox.state import Sandbox
from sandbox.store import Object, copied


def used(state: Sandbox, item: Object, *, customer: str, period: tuple[int, int]) -> int:
    """Return the units a metered item bills for a period; corrections below zero bill nothing."""
    price = state.get("price", item["price"])
    meter = state.get("billing.meter", price["recurring"]["meter"])
    return max(usage_between(state, meter, customer=customer, start=period[0], end=period[1]), 0)


def usage_lines(
    state: Sandbox, item: Object, *, customer: str, period: tuple[int, int], currency: str
) -> list[Object]:
    quantity = used(state, item, customer=customer, period=period)
    lines = charge_lines(state, item, quantity=quantity, period=period, currency=currency)
    for line in lines:
        # The item as it was when its period closed: a change of price must not reach back.
        line["_usage_of"] = copied({name: value for name, value in item.items() if name != "_debit"})
    return lines
