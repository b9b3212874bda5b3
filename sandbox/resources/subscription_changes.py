"""Changing what a running subscription is for."""

from typing import Any

from sandbox.cards import Decline
from sandbox.errors import ApiError
from sandbox.params import merge_metadata
from sandbox.pricing import get_price
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import invoice_pending, is_metered, proration_lines


def change_items(state: Sandbox, subscription: Object, params: dict[str, Any]) -> Decline | None:
    """Swap prices and quantities, prorating as asked. Returns why collecting a proration failed, else None.

    Raises ApiError for items that are not the subscription's and for changes the sandbox does not make.
    """
    at = params.get("proration_date", state.now())
    lines: list[Object] = []
    for index, change in enumerate(params["items"]):
        if "id" not in change or change.get("deleted"):
            raise ApiError(
                "The sandbox changes the price or quantity of existing items; it does not add or delete "
                "items (Stripe does).",
                code="sandbox_unsupported",
                param=f"items[{index}]",
            )
        if change["id"] not in subscription["_items"]:
            raise ApiError(
                f"No such subscription item: '{change['id']}'",
                code="resource_missing",
                param=f"items[{index}][id]",
            )
        item = state.get("subscription_item", change["id"])
        old = state.get("price", item["price"])
        new = get_price(state, change["price"], param=f"items[{index}][price]") if "price" in change else old
        _check_swap(old, new, index=index)
        old_quantity, quantity = item.get("quantity"), change.get("quantity", item.get("quantity"))
        if (old["id"], old_quantity) != (new["id"], quantity) and subscription["status"] == "active":
            lines += proration_lines(
                state,
                item,
                old=old,
                old_quantity=old_quantity or 0,
                new=new,
                new_quantity=quantity or 0,
                at=at,
            )
        item["price"] = new["id"]
        if not is_metered(new):
            item["quantity"] = quantity
        if "metadata" in change:
            item["metadata"] = merge_metadata(item["metadata"], change["metadata"])
        state.put(item)
    behaviour = params.get("proration_behavior", "create_prorations")
    if behaviour != "none":
        subscription["_pending_lines"] += lines
        state.put(subscription)
    if behaviour == "always_invoice":
        return invoice_pending(state, subscription, customer=state.get("customer", subscription["customer"]))
    return None


def _check_swap(old: Object, new: Object, *, index: int) -> None:
    where = f"items[{index}][price]"
    if new["currency"] != old["currency"]:
        raise ApiError("All prices on a subscription must use the same currency.", param=where)
    if new["type"] != "recurring":
        raise ApiError(
            "The price specified is set to `type=one_time` but this field only accepts prices with "
            "`type=recurring`.",
            param=where,
        )
    same = ("interval", "interval_count")
    if any(new["recurring"][name] != old["recurring"][name] for name in same) or is_metered(
        new
    ) != is_metered(old):
        raise ApiError(
            "The sandbox swaps prices of one interval and usage type only (Stripe allows more).",
            code="sandbox_unsupported",
            param=where,
        )
