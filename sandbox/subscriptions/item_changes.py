"""What a request changes about a subscription's items: read and checked first, then applied."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.pricing import build_price, get_price
from sandbox.catalog.taxing import get_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.lines import is_metered
from sandbox.params import merge_metadata
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import Wanted, add_item, check_together, items_of


@dataclass
class ItemChange:
    """One entry of `items`: an item to change or delete, or a price to add (then `item` comes to be)."""

    given: dict[str, Any]
    item: Object | None
    old: Object | None
    new: Object | None
    quantity: int | None
    index: int
    deleted: bool = False

    # Whether what is charged for the item changes.
    rebills: bool = field(init=False)

    def __post_init__(self) -> None:
        kept = self.item is not None and not self.deleted and self.old is not None and self.new is not None
        before = (self.old or {}).get("id"), (self.item or {}).get("quantity")
        self.rebills = not kept or before != ((self.new or {}).get("id"), self.quantity)

    @property
    def changes_interval(self) -> bool:
        if self.item is None or self.deleted or self.old is None or self.new is None:
            return False
        return any(
            self.old["recurring"][name] != self.new["recurring"][name]
            for name in ("interval", "interval_count")
        )


def price_given(state: Sandbox, given: dict[str, Any], *, where: str) -> Object | None:
    """Return the price an entry names or describes, None where it does neither. Raises ApiError for both."""
    if "price" in given and "price_data" in given:
        raise ApiError("You may only specify one of these parameters: price, price_data.", param=where)
    if "price" in given:
        return get_price(state, given["price"], param=f"{where}[price]")
    if "price_data" in given:
        data = given["price_data"]
        product = state.get("product", data["product"], param=f"{where}[price_data][product]", status=400)
        # Such a price serves this item only, so it is born inactive.
        price = build_price(state, {**data, "active": False}, product=product["id"])
        return state.create(price, event="price.created")
    return None


def read_changes(
    state: Sandbox, subscription: Object, given: list[dict[str, Any]], *, agreed: bool = False
) -> list[ItemChange]:
    """Return the changes in order. Raises ApiError for items of others and for prices that do not fit.

    What was `agreed` on earlier stands, though its prices and tax rates may be archived by now.
    """
    changes = [
        _read_one(state, subscription, each, index=index, agreed=agreed) for index, each in enumerate(given)
    ]
    named = [each.item["id"] for each in changes if each.item is not None]
    if len(set(named)) < len(named):
        raise ApiError("An item may be named only once in `items`.", param="items")
    _check_outcome(state, subscription, changes)
    return [each for each in changes if each.item is None or each.deleted or _says_something(each)]


def _says_something(change: ItemChange) -> bool:
    return change.rebills or bool({"metadata", "discounts", "tax_rates"} & set(change.given))


def _read_one(
    state: Sandbox, subscription: Object, given: dict[str, Any], *, index: int, agreed: bool
) -> ItemChange:
    where = f"items[{index}]"
    if agreed:
        price = state.get("price", given["price"]) if "price" in given else None
    else:
        price = price_given(state, given, where=where)
        get_tax_rates(state, given.get("tax_rates") or [], param=f"{where}[tax_rates]")
    if "id" not in given:
        if price is None:
            raise missing_parameter(f"{where}[price]")
        return ItemChange(
            given, None, None, price, given.get("quantity", None if is_metered(price) else 1), index
        )
    if given["id"] not in subscription["_items"]:
        raise ApiError(
            f"No such subscription item: '{given['id']}'", code="resource_missing", param=f"{where}[id]"
        )
    item = state.get("subscription_item", given["id"])
    old = state.get("price", item["price"])
    if given.get("deleted"):
        return ItemChange(given, item, old, None, None, index, deleted=True)
    new = price or old
    if is_metered(new):
        if "quantity" in given:
            raise ApiError(
                "Quantity should not be specified where usage_type is `metered`. Remove quantity from "
                f"`{where}`.",
                param=f"{where}[quantity]",
            )
        return ItemChange(given, item, old, new, None, index)
    return ItemChange(given, item, old, new, given.get("quantity", item.get("quantity", 1)), index)


def _check_outcome(state: Sandbox, subscription: Object, changes: list[ItemChange]) -> None:
    named = {each.item["id"] for each in changes if each.item is not None}
    wanted = [
        Wanted(state.get("price", item["price"]), item.get("quantity"))
        for item in items_of(state, subscription)
        if item["id"] not in named
    ]
    wanted += [Wanted(each.new, each.quantity) for each in changes if each.new is not None]
    if not wanted:
        raise ApiError(
            "A subscription must have at least one active plan. To cancel a subscription, please use the "
            "cancel API endpoint.",
            param="items",
        )
    check_together(wanted, currency=subscription["currency"])


def apply_change(state: Sandbox, subscription: Object, change: ItemChange) -> None:
    """Make one change to the stored items. An added item is then found as `change.item`."""
    if change.deleted and change.item is not None:
        # The item stays to be looked at, as lines of invoices name it.
        subscription["_items"].remove(change.item["id"])
        state.put(subscription)
        return
    if change.new is None:
        return
    if change.item is None:
        change.item = add_item(state, subscription, Wanted(change.new, change.quantity))
    item = change.item
    item["price"] = change.new["id"]
    item.pop("quantity", None)
    if change.quantity is not None:
        item["quantity"] = change.quantity
    if is_metered(change.new):
        item["_debit"] = None
    given = change.given
    if "metadata" in given:
        item["metadata"] = merge_metadata(item["metadata"], given["metadata"])
    if "tax_rates" in given:
        item["tax_rates"] = given["tax_rates"] or []
    if "discounts" in given:
        discounting.replace_discounts(
            state,
            item,
            given["discounts"] or [],
            currency=subscription["currency"],
            param=f"items[{change.index}][discounts]",
        )
    state.put(item)
