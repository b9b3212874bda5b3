"""Invoice items: amounts that wait for an invoice, prorations among them."""

from typing import Any

from sandbox.invoices.lines import new_line
from sandbox.invoices.usage_lines import usage_lines
from sandbox.state import Sandbox
from sandbox.store import Object


def new_item(
    state: Sandbox,
    *,
    customer: Object,
    amount: int,
    currency: str,
    period: tuple[int, int],
    description: str | None,
    quantity: int = 1,
    price: Object | None = None,
    subscription: str | None = None,
    **fields: Any,
) -> Object:
    """Return an invoice item not yet stored; `amount` is in minor units and may be negative."""
    return {
        "id": state.new_id("invoiceitem"),
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency,
        "customer": customer["id"],
        "customer_account": None,
        "date": state.now(),
        "description": description,
        "discountable": amount >= 0,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "net_amount": amount,
        "parent": None
        if subscription is None
        else {
            "subscription_details": {"subscription": subscription},
            "type": "subscription_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pricing": None
        if price is None
        else {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "proration": False,
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "tax_rates": [],
        "test_clock": customer["test_clock"],
        "_line": None,
        "_usage_of": None,
        "_price": price["id"] if price else None,
        "_subscription": subscription,
        **fields,
    }


def set_aside(state: Sandbox, line: Object, *, customer: Object) -> Object:
    """Store and return an invoice item that waits with a line of a subscription item on it."""
    details = line["parent"]["subscription_item_details"]
    item = new_item(
        state,
        customer=customer,
        amount=line["amount"],
        currency=line["currency"],
        period=(line["period"]["start"], line["period"]["end"]),
        description=line["description"],
        quantity=line["quantity"] or 0,
        subscription=details["subscription"],
        discountable=line["discountable"],
        discounts=list(line["discounts"]),
        proration=details["proration"],
        pricing=line["pricing"],
        tax_rates=list(line["_tax_rates"]),
    )
    item["parent"]["subscription_details"]["subscription_item"] = details["subscription_item"]
    if details["proration"]:
        item["proration_details"] = {"discount_amounts": []}
    details["invoice_item"] = item["id"]
    item["_line"] = line
    return state.create(item, event="invoiceitem.created")


def set_aside_usage(state: Sandbox, lines: list[Object], *, customer: Object) -> Object:
    """Store and return an invoice item that waits with the usage of a metered item's closed period.

    What is reported until its invoice is finalized still counts, so its amount may change till then.
    """
    first = lines[0]
    details = first["parent"]["subscription_item_details"]
    item = new_item(
        state,
        customer=customer,
        amount=0,
        currency=first["currency"],
        period=(first["period"]["start"], first["period"]["end"]),
        description=first["description"],
        subscription=details["subscription"],
        discounts=list(first["discounts"]),
        pricing=first["pricing"],
        tax_rates=list(first["_tax_rates"]),
        _usage_of=first["_usage_of"],
    )
    item["parent"]["subscription_details"]["subscription_item"] = details["subscription_item"]
    hold_usage(item, lines)
    return state.create(item, event="invoiceitem.created")


def hold_usage(item: Object, lines: list[Object]) -> None:
    """Let an item and the lines that show it say the same. Changes both in place."""
    amount, quantity = sum(line["amount"] for line in lines), sum(line["quantity"] for line in lines)
    item.update(amount=amount, net_amount=amount, quantity=quantity, quantity_decimal=str(quantity))
    for line in lines:
        line["parent"]["subscription_item_details"]["invoice_item"] = item["id"]


def pending(state: Sandbox, *, customer: str, subscription: str | None, currency: str) -> list[Object]:
    """Return the items the next invoice takes up: the subscription's own and those of none."""
    found = [
        each
        for each in state.every("invoiceitem")
        if not each.get("deleted")
        and each["customer"] == customer
        and each["invoice"] is None
        and each["currency"] == currency
        and each["_subscription"] in (None, subscription)
    ]
    return [state.get("invoiceitem", each["id"]) for each in found]


def lines_of(state: Sandbox, item: Object) -> list[Object]:
    """Return the invoice lines that show an item: one, or for usage one a tier that it reaches by now."""
    if item["_line"] is not None:
        return [dict(item["_line"])]
    if item["_usage_of"] is not None:
        lines = usage_lines(
            state,
            item["_usage_of"],
            customer=item["customer"],
            period=(item["period"]["start"], item["period"]["end"]),
            currency=item["currency"],
        )
        hold_usage(item, lines)
        state.put(item)
        return lines
    return [_line_of(state, item)]


def _line_of(state: Sandbox, item: Object) -> Object:
    subscription = item["_subscription"]
    parent = {
        "invoice_item_details": {
            "invoice_item": item["id"],
            "proration": item["proration"],
            "proration_details": {"credited_items": None},
            "subscription": subscription,
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }
    price = state.find("price", item["_price"]) if item["_price"] else None
    return new_line(
        state,
        parent=parent,
        price=price,
        amount=item["amount"],
        currency=item["currency"],
        quantity=item["quantity"],
        period=(item["period"]["start"], item["period"]["end"]),
        description=item["description"],
        discountable=item["discountable"],
        discounts=list(item["discounts"]),
        metadata=dict(item["metadata"]),
        _tax_rates=list(item["tax_rates"]),
    )


def refresh_usage(state: Sandbox, invoice: Object) -> None:
    """Count a draft's usage once more: what was reported since it was drafted belongs on it too."""
    fresh: list[Object] = []
    done: set[tuple[str, int]] = set()
    for line in invoice["lines"]["data"]:
        used = line.get("_usage_of")
        if used is None:
            fresh.append(line)
            continue
        period = (line["period"]["start"], line["period"]["end"])
        if (used["id"], period[0]) in done:
            continue
        done.add((used["id"], period[0]))
        waited = line["parent"]["subscription_item_details"]["invoice_item"]
        if waited is not None:
            fresh += lines_of(state, state.get("invoiceitem", waited))
        else:
            fresh += usage_lines(
                state, used, customer=invoice["customer"], period=period, currency=invoice["currency"]
            )
    invoice["lines"]["data"] = fresh
