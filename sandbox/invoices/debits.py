"""What items were charged for their periods: credits for unused time reckon from it."""

from sandbox.state import Sandbox
from sandbox.store import Object


def note_debits(state: Sandbox, invoice: Object) -> None:
    """Keep on each item what an invoice charges for its new period, after discounts."""
    for identifier, debit in _debits(invoice).items():
        item = state.find("subscription_item", identifier)
        if item is not None:
            item["_debit"] = debit
            state.put(item)


def settle_debits(state: Sandbox, invoice: Object) -> None:
    """Correct what was noted from a draft: usage that came in later may have moved its discounts."""
    for identifier, debit in _debits(invoice).items():
        item = state.find("subscription_item", identifier)
        # Another charge has taken its place where the item was changed meanwhile.
        if item is not None and (item["_debit"] or {}).get("invoice") == invoice["id"]:
            item["_debit"] = debit
            state.put(item)


def _debits(invoice: Object) -> dict[str, Object]:
    sums: dict[str, Object] = {}
    for line in invoice["lines"]["data"]:
        details = line["parent"].get("subscription_item_details")
        if details is None or details["proration"] or line.get("_metered"):
            continue
        off = sum(each["amount"] for each in line["discount_amounts"])
        start, end = line["period"]["start"], line["period"]["end"]
        debit = sums.setdefault(
            details["subscription_item"], {"amount": 0, "start": start, "end": end, "invoice": invoice["id"]}
        )
        debit["amount"] += line["amount"] - off
    return sums
