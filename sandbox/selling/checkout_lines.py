"""The lines of a Checkout session: what is to be sold, checked when the session is made."""

from typing import Any

from sandbox.catalog.amounts import amount_in, line_amount
from sandbox.catalog.pricing import build_price, get_price
from sandbox.catalog.taxing import get_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import merge_metadata
from sandbox.resources import products
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import is_metered

MOST = {"payment": 100, "subscription": 40}
RECURRING_MOST = 20
# What Checkout lets people choose between where the seller sets no bounds.
QUANTITIES = (0, 99)


def read_lines(
    state: Sandbox, given: list[dict[str, Any]], *, mode: str, currency: str | None
) -> list[Object]:
    """Return the lines. Raises ApiError (400) for prices that do not fit the mode or each other."""
    if not given:
        raise missing_parameter("line_items")
    lines = [
        _line(state, each, mode=mode, currency=currency, index=index) for index, each in enumerate(given)
    ]
    recurring = [each for each in lines if each["_recurring"]]
    if mode == "subscription" and not recurring:
        raise ApiError(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            param="line_items",
        )
    if len(lines) > MOST[mode] or len(recurring) > RECURRING_MOST:
        raise ApiError(
            f"You can provide at most {RECURRING_MOST} recurring prices and {MOST[mode]} line items.",
            param="line_items",
        )
    if len({line["currency"] for line in lines}) > 1:
        raise ApiError("All line items must have the same currency.", param="line_items")
    # Checked now, as Stripe does, so that the page cannot fail on it later.
    if len({line["price"] for line in recurring}) < len(recurring):
        raise ApiError("You cannot use the same recurring price on several line items.", param="line_items")
    return lines


def _line(state: Sandbox, given: dict[str, Any], *, mode: str, currency: str | None, index: int) -> Object:
    where = f"line_items[{index}]"
    if ("price" in given) == ("price_data" in given):
        raise ApiError("You must specify either `price` or `price_data` for each line item.", param=where)
    price = (
        get_price(state, given["price"], param=f"{where}[price]")
        if "price" in given
        else _inline_price(state, given["price_data"], where=f"{where}[price_data]")
    )
    if price["type"] == "recurring" and mode == "payment":
        raise ApiError(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode "
            "or use only one-time prices.",
            param=where,
        )
    sold_in = (currency or price["currency"]).lower()
    if amount_in(price, sold_in) is None:
        raise ApiError(f"The price {price['id']} is not sold in {sold_in}.", param=f"{where}[price]")
    quantity = _quantity(price, given, where=where)
    amount = 0 if is_metered(price) else line_amount(price, quantity or 0, currency=sold_in)
    product = state.get("product", price["product"])
    return {
        "id": state.new_id("item"),
        "object": "item",
        "adjustable_quantity": _adjustable(price, given, quantity, where=where),
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": sold_in,
        "description": product["name"],
        "metadata": merge_metadata({}, given.get("metadata") or {}),
        "price": price["id"],
        "quantity": quantity,
        "_discounts": [],
        "_recurring": price["type"] == "recurring",
        "_tax_rates": get_tax_rates(state, given.get("tax_rates", []), param=f"{where}[tax_rates]"),
        "_taxes": [],
    }


def _quantity(price: Object, given: dict[str, Any], *, where: str) -> int | None:
    if is_metered(price):
        if "quantity" in given:
            raise ApiError(
                f"You cannot specify `quantity` for a price with usage_type=metered: {where}[quantity].",
                param=f"{where}[quantity]",
            )
        return None
    if "quantity" not in given:
        raise ApiError(
            "Quantity is required. Add `quantity` to `" + where + "`",
            code="parameter_missing",
            param=f"{where}[quantity]",
        )
    return int(given["quantity"])


def _adjustable(price: Object, given: dict[str, Any], quantity: int | None, *, where: str) -> Object | None:
    wish = given.get("adjustable_quantity")
    if wish is None or not wish["enabled"]:
        return None
    name = f"{where}[adjustable_quantity]"
    if quantity is None:
        raise ApiError("You cannot adjust the quantity of a metered price.", param=name)
    least, most = wish.get("minimum", QUANTITIES[0]), wish.get("maximum", max(QUANTITIES[1], quantity))
    if not least <= quantity <= most or least == most:
        raise ApiError(
            "`adjustable_quantity[minimum]` must be below `adjustable_quantity[maximum]`, and `quantity` "
            "between them.",
            param=name,
        )
    return {"enabled": True, "maximum": most, "minimum": least}


def _inline_price(state: Sandbox, given: dict[str, Any], *, where: str) -> Object:
    if ("product" in given) == ("product_data" in given):
        raise ApiError("You must specify either `product` or `product_data`.", param=where)
    if "product" in given:
        product = state.get("product", given["product"], param=f"{where}[product]", status=400)
    else:
        product = products.new_product(state)
        products.apply(product, given["product_data"])
        state.create(product, event="product.created")
    # Such a price serves this sale only, so it is born inactive.
    return state.create(
        build_price(state, {**given, "active": False}, product=product["id"]), event="price.created"
    )
