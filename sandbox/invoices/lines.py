"""Invoice lines: what each says, for what period, and how much."""

import datetime
import decimal
from typing import Any

from sandbox.catalog.amounts import decimal_text, line_amount, money_text, rounded
from sandbox.state import Sandbox
from sandbox.store import Object

Period = tuple[int, int]


def is_metered(price: Object) -> bool:
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def new_line(
    state: Sandbox,
    *,
    parent: dict[str, Any],
    price: Object | None,
    amount: int,
    currency: str,
    quantity: int | None,
    period: Period,
    description: str | None,
    **fields: Any,
) -> Object:
    """Return an invoice line; `amount` is in minor units and may be negative."""
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    return {
        "id": state.new_id("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": parent,
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": None if price is None else _pricing(price),
        "quantity": quantity,
        "quantity_decimal": None if quantity is None else str(quantity),
        "subscription": details.get("subscription"),
        "subtotal": amount,
        "taxes": [],
        **fields,
    }


def _pricing(price: Object) -> Object:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }


def item_parent(item: Object, *, proration: bool = False, invoice_item: str | None = None) -> Object:
    return {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": invoice_item,
            "proration": proration,
            "proration_details": {"credited_items": None} if proration else None,
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }


def charge_lines(
    state: Sandbox, item: Object, *, quantity: int, period: Period, currency: str, trial: bool = False
) -> list[Object]:
    """Return the lines that bill a quantity of an item's price for a period, each rounded by itself.

    A graduated price has a line for each tier the quantity reaches, and one for each flat fee; any
    other price has one line.
    """
    price = state.get("price", item["price"])
    name = product_name(state, price)
    shared: dict[str, Any] = {
        "parent": item_parent(item),
        "price": price,
        "currency": currency,
        "period": period,
        "discounts": list(item["discounts"]),
        "_tax_rates": list(item["tax_rates"]),
        "_metered": is_metered(price),
    }
    if trial:
        text = f"Free trial for {name}" if quantity == 1 else f"Free trial for {quantity} × {name}"
        return [new_line(state, amount=0, quantity=quantity, description=text, **shared)]
    if price["billing_scheme"] == "tiered" and price["tiers_mode"] == "graduated":
        return [
            new_line(state, amount=amount, quantity=count, description=text, **shared)
            for amount, count, text in _tier_parts(price, quantity, name=name, currency=currency)
        ]
    amount = line_amount(price, quantity, currency=currency)
    text = f"{quantity} × {name} (at {_rate(price, currency)})"
    return [new_line(state, amount=amount, quantity=quantity, description=text, **shared)]


def _tier_parts(price: Object, quantity: int, *, name: str, currency: str) -> list[tuple[int, int, str]]:
    """Return (amount, quantity, description) for each tier reached; the first is always reached."""
    parts = []
    lower = 0
    every = renewal_text(price)
    for number, tier in enumerate(tiers_in(price, currency), start=1):
        upper = tier["up_to"]
        inside = max((quantity if upper is None else min(quantity, upper)) - lower, 0)
        if inside or number == 1:
            unit = decimal.Decimal(tier["unit_amount_decimal"] or 0)
            if tier["unit_amount_decimal"] is not None:
                each = money_text(rounded(unit), currency)
                text = f"{inside} × {name} (Tier {number} at {each} / {every})"
                parts.append((rounded(unit * inside), inside, text))
            if tier["flat_amount_decimal"] is not None and decimal.Decimal(tier["flat_amount_decimal"]):
                flat = rounded(decimal.Decimal(tier["flat_amount_decimal"]))
                parts.append((flat, 0, f"{name} (Tier {number} flat fee)"))
        if upper is None or quantity <= upper:
            break
        lower = upper
    return parts


def tiers_in(price: Object, currency: str) -> list[Object]:
    """Return a tiered price's tiers, in the currency that is billed."""
    if currency != price["currency"]:
        return list(price["_currency_options"][currency]["tiers"])
    return list(price["_tiers"])


def proration_line(
    state: Sandbox,
    item: Object,
    *,
    price: Object,
    amount: int,
    quantity: int,
    period: Period,
    currency: str,
) -> Object:
    """Return a credit (a negative amount) or a charge for the rest of a period."""
    words = "Unused time on" if amount < 0 else "Remaining time on"
    count = "" if quantity == 1 else f"{quantity} × "
    after = datetime.datetime.fromtimestamp(period[0], tz=datetime.UTC)
    return new_line(
        state,
        parent=item_parent(item, proration=True),
        price=price,
        amount=amount,
        currency=currency,
        quantity=quantity,
        period=period,
        description=f"{words} {count}{product_name(state, price)} after {after:%d %b %Y}",
        # The amount has the discounts in it already.
        discountable=False,
        _tax_rates=list(item["tax_rates"]),
    )


def product_name(state: Sandbox, price: Object) -> str:
    return str((state.find("product", price["product"]) or {}).get("name"))


def renewal_text(price: Object) -> str:
    recurring = price["recurring"]
    count = recurring["interval_count"]
    return str(recurring["interval"]) if count == 1 else f"{count} {recurring['interval']}s"


def _rate(price: Object, currency: str) -> str:
    if price["billing_scheme"] != "per_unit":
        return f"tiered / {renewal_text(price)}"
    exact = decimal.Decimal(price["unit_amount_decimal"])
    whole = exact == exact.to_integral_value()
    text = (
        money_text(line_amount(price, 1, currency=currency), currency)
        if whole or currency != price["currency"]
        else f"{decimal_text(exact)} cents"
    )
    return f"{text} / {renewal_text(price)}"
