"""What the invoice page and its PDF say of an invoice: the same facts, rows and totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.catalog.amounts import money_text
from sandbox.pages.control import date
from sandbox.pages.countries import COUNTRIES
from sandbox.state import Sandbox
from sandbox.store import Object

STATUS = {
    "open": "Open",
    "paid": "Paid",
    "uncollectible": "Uncollectible",
    "void": "Void",
}


@dataclass(frozen=True)
class Total:
    """One row under the lines. `strong` for those that matter most."""

    label: str
    amount: str
    strong: bool = False


def lines_of(invoice: Object) -> list[dict[str, Any]]:
    currency = invoice["currency"]
    return [
        {
            "text": line["description"] or "",
            "period": period_text(line["period"]),
            "quantity": line["quantity"],
            "amount": money_text(line["amount"], currency),
        }
        for line in invoice["lines"]["data"]
    ]


def period_text(period: Object) -> str:
    """Say when a line is for: a day, or two with a dash between."""
    start, end = date(period["start"]), date(period["end"])
    return start if start == end else f"{start} – {end}"


def totals_of(state: Sandbox, invoice: Object) -> list[Total]:
    """Return the rows from subtotal to what is still due, those of nothing left out."""
    currency = invoice["currency"]

    def money(amount: int) -> str:
        return money_text(amount, currency)

    rows = [Total("Subtotal", money(sum(line["amount"] for line in invoice["lines"]["data"])))]
    for each in invoice["total_discount_amounts"] or []:
        rows.append(Total(_discount(state, each["discount"]), money(-each["amount"])))
    for each in invoice["total_taxes"] or []:
        rows.append(Total(_tax(state, each), money(each["amount"])))
    rows.append(Total("Total", money(invoice["total"]), strong=True))
    credited = invoice["pre_payment_credit_notes_amount"]
    if credited:
        rows.append(Total("Adjustment", money(-credited)))
    applied = invoice["amount_due"] - invoice["total"] + credited if invoice["total"] > 0 else 0
    if applied:
        rows.append(Total("Applied balance", money(applied)))
    rows.append(Total("Amount due", money(invoice["amount_due"]), strong=True))
    paid = invoice["amount_paid"] + invoice["amount_paid_off_stripe"]
    if paid:
        rows.append(Total("Amount paid", money(paid)))
        rows.append(Total("Amount remaining", money(invoice["amount_remaining"])))
    if invoice["post_payment_credit_notes_amount"]:
        rows.append(Total("Refunded or credited later", money(-invoice["post_payment_credit_notes_amount"])))
    return rows


def _discount(state: Sandbox, identifier: str) -> str:
    discount = state.find("discount", identifier)
    if discount is None:
        return "Discount"
    code = state.find("promotion_code", discount["promotion_code"] or "")
    coupon = state.find("coupon", discount["source"]["coupon"]) or {}
    name = code["code"] if code else coupon.get("name") or discount["source"]["coupon"]
    percent = discount["_terms"]["percent_off"]
    return f"{name} ({percent:g}% off)" if percent is not None else str(name)


def _tax(state: Sandbox, tax: Object) -> str:
    rate = state.find("tax_rate", (tax["tax_rate_details"] or {}).get("tax_rate") or "")
    if rate is None:
        return "Tax"
    included = " included" if tax["tax_behavior"] == "inclusive" else ""
    where = f" {rate['jurisdiction']}" if rate["jurisdiction"] else ""
    return f"{rate['display_name']}{where} ({rate['percentage']:g}%{included})"


def facts_of(state: Sandbox, invoice: Object) -> list[tuple[str, str]]:
    """Return label and value pairs: when it was issued, when it is due, when and how it was paid."""
    facts = [("Invoice number", invoice["number"]), ("Date of issue", date(invoice["effective_at"]))]
    if invoice["due_date"] is not None:
        facts.append(("Date due", date(invoice["due_date"])))
    moments = invoice["status_transitions"]
    for label, name in (("Date paid", "paid_at"), ("Voided", "voided_at")):
        if moments[name] is not None:
            facts.append((label, date(moments[name])))
    card = _card(state, invoice)
    if card is not None and invoice["status"] == "paid":
        facts.append(("Payment method", f"{card['brand'].title()} ending in {card['last4']}"))
    for field in invoice["custom_fields"] or []:
        facts.append((field["name"], field["value"]))
    return facts


def _card(state: Sandbox, invoice: Object) -> Object | None:
    intent = state.find("payment_intent", invoice["_intent"] or "")
    charge = state.find("charge", intent["latest_charge"] or "") if intent else None
    if charge is None or charge["status"] != "succeeded":
        return None
    return dict(charge["payment_method_details"]["card"])


def billed_to(invoice: Object) -> list[str]:
    """Return the lines of the address the invoice is to."""
    address = invoice["customer_address"] or {}
    town = " ".join(address[part] for part in ("postal_code", "city", "state") if address.get(part))
    country = address.get("country")
    tax_ids = [each["value"] for each in invoice["customer_tax_ids"] or []]
    found = [
        invoice["customer_name"],
        address.get("line1"),
        address.get("line2"),
        town,
        COUNTRIES.get(country, country) if country else None,
        invoice["customer_email"],
        *(f"Tax ID {each}" for each in tax_ids),
    ]
    return [each for each in found if each] or [invoice["customer"]]
