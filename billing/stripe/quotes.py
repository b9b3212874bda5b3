"""What Stripe would invoice: its own previews, read. All amounts are in the currency's minor unit."""

import hashlib
import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.stripe.client import get_client
from billing.subscriptions import PlanSubscription

Invoice = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """A row of a preview. The rows of one add up to its amount due."""

    description: str
    amount: int


def draft_preview(subscription: PlanSubscription, details: dict[str, Any], **more: Any) -> Invoice:
    """Return Stripe's preview of the invoice that a change of `details` leads to."""
    params: Any = {"subscription": subscription.id, "subscription_details": details, **more}
    return get_client().v1.invoices.create_preview(params).to_dict()


def lines_of(invoice: Invoice) -> list[dict[str, Any]]:
    return list(invoice["lines"]["data"])


def preview_lines(invoice: Invoice) -> list[PreviewLine]:
    """Return the invoice's lines, and what lies between them and the amount due."""
    shown = [PreviewLine(line["description"] or "", line["amount"]) for line in lines_of(invoice)]
    off = sum(each["amount"] for each in invoice["total_discount_amounts"] or [])
    gross = sum(line.amount for line in shown)
    if invoice["lines"]["has_more"]:
        # Stripe embeds the first lines only, and a preview has no others to ask for.
        gross = invoice["subtotal"]
        shown.append(PreviewLine("Further lines", gross - sum(line.amount for line in shown)))
    between = [
        PreviewLine("Discount", -off),
        PreviewLine("Tax", invoice["total"] - gross + off),
        balance_line(invoice),
    ]
    return shown + [line for line in between if line.amount]


def balance_line(invoice: Invoice) -> PreviewLine:
    """Return what the customer's balance takes from the total or adds to it."""
    moved = invoice["amount_due"] - invoice["total"]
    if moved > 0 and invoice["total"] < 0:
        return PreviewLine("Kept as credit for later invoices", moved)
    if moved < 0 and not invoice["amount_due"] and invoice["starting_balance"] >= 0:
        return PreviewLine("Too small to charge now: added to the next invoice", moved)
    return PreviewLine("Credit from before" if moved < 0 else "Owed from before", moved)


def balance_after(invoice: Invoice) -> int:
    """Return the customer's balance once the invoice is finalized: negative is credit."""
    return int(invoice["starting_balance"] + invoice["total"] - invoice["amount_due"])


def total_of(lines: Iterable[dict[str, Any]]) -> int:
    """Return what lines come to, less discounts and with the taxes that are added to them."""
    total = 0
    for line in lines:
        total += line["amount"] - sum(each["amount"] for each in line["discount_amounts"] or [])
        total += sum(tax["amount"] for tax in line["taxes"] or [] if tax["tax_behavior"] == "exclusive")
    return total


def price_of(line: dict[str, Any]) -> str:
    """Return the id of the price that a line charges for, empty where it is for none."""
    details = (line.get("pricing") or {}).get("price_details") or {}
    return str(details.get("price") or "")


def fingerprint(invoice: Invoice, *, usage_prices: Container[str]) -> str:
    """Return a digest of all that an invoice charges, but for usage.

    Usage goes on while a customer reads a preview, and is owed whatever they decide. Periods are left out as well:
    a change of interval begins its own at the moment that it is made, seconds after it was shown.
    """
    fixed = [
        [
            line["amount"],
            price_of(line),
            sum(each["amount"] for each in line["discount_amounts"] or []),
            sum(tax["amount"] for tax in line["taxes"] or []),
        ]
        for line in lines_of(invoice)
        if price_of(line) not in usage_prices
    ]
    told = json.dumps([sorted(fixed), invoice["starting_balance"], invoice["currency"]])
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def running_discounts(subscription: PlanSubscription, *, at: datetime) -> list[dict[str, str]]:
    """Return the subscription's discounts that still run at a moment, as parameters that keep them running."""
    if not subscription.data["discounts"]:
        return []
    expanded = get_client().v1.subscriptions.retrieve(subscription.id, {"expand": ["discounts"]})
    return [
        {"discount": discount["id"]}
        for discount in expanded["discounts"]
        if discount["end"] is None or discount["end"] > at.timestamp()
    ]
