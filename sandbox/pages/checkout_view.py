"""What the Checkout page shows of a session: lines, totals and when the next charge falls due."""

from __future__ import annotations

import decimal
from typing import Any

from sandbox.catalog.amounts import amount_in, line_amount, money_text, unit_text
from sandbox.clock import add_interval
from sandbox.errors import ApiError
from sandbox.invoices.lines import renewal_text, tiers_in
from sandbox.pages.checkout_form import buyer_of, fields_of, saved_cards
from sandbox.pages.countries import COUNTRIES
from sandbox.pages.forms import Form
from sandbox.selling.checkout import needs_card
from sandbox.selling.selling import Buyer, Reckoning, note, reckon, trial_end_of
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import is_metered

BUTTONS = {"book": "Book", "donate": "Donate"}


def view(state: Sandbox, session: Object, form: Form) -> dict[str, Any]:
    """Return what the template needs."""
    found = _reckoned(state, session, form)
    trial = trial_end_of(state, session) if session["mode"] == "subscription" else None
    lines = [_line(state, each, trial=trial is not None) for each in session["_lines"]]
    recurring = _recurring(state, session)
    return {
        "session": session,
        "mode": session["mode"],
        "form": form,
        "asked": fields_of(state, session),
        "lines": lines,
        "found": found,
        "currency": session["currency"],
        "trial": trial,
        "recurring": recurring,
        "next_charge": _next_charge(state, session) if session["mode"] == "subscription" else None,
        "known_email": (session["customer_details"] or {}).get("email"),
        "card_needed": needs_card(session, due=found.due),
        "saved": saved_cards(state, session),
        "code": _code(state, session),
        "button": _button(session, trial=trial is not None),
        "countries": COUNTRIES,
        "title": _title(session, lines, trial=trial is not None),
        "adjustable": any(line["adjustable"] for line in lines),
        "mixed": found.discount or found.tax or not found.tax_known,
        "cancel_url": session["cancel_url"],
    }


def _reckoned(state: Sandbox, session: Object, form: Form) -> Reckoning:
    """Return what the page's total is made of, for what is known of the buyer so far."""
    quiet = Form(dict(form.values))
    quiet.values["action"] = "look"
    buyer = buyer_of(state, session, quiet, card_needed=False)
    if quiet.errors.keys() & {"country", "postal_code", "state", "line1", "city"}:
        buyer.address = None
    if quiet.errors.keys() & {"tax_id", "business_name"} or form.errors.keys() & {"tax_id"}:
        buyer.tax_id = None
    try:
        found = reckon(state, session, buyer)
    except ApiError:
        found = reckon(state, session, Buyer(email=buyer.email))
    note(session, found)
    return found


def _title(session: Object, lines: list[dict[str, Any]], *, trial: bool) -> str:
    if session["mode"] == "setup":
        return "Save a card"
    name = lines[0]["name"]
    if session["mode"] == "payment":
        return f"Pay for {name}" if len(lines) == 1 else "Pay for your order"
    return f"Try {name}" if trial else f"Subscribe to {name}"


def _button(session: Object, *, trial: bool) -> str:
    if session["mode"] == "setup":
        return "Save card"
    if session["mode"] == "subscription":
        return "Start trial" if trial else "Subscribe"
    return BUTTONS.get(session["submit_type"] or "pay", "Pay")


def _code(state: Sandbox, session: Object) -> dict[str, Any] | None:
    """Return the discount on the session as the page names it."""
    for each in session["discounts"]:
        code = state.find("promotion_code", each["promotion_code"]) if each["promotion_code"] else None
        identifier = code["promotion"]["coupon"] if code else each["coupon"]
        coupon = state.get("coupon", identifier)
        return {
            "text": code["code"] if code else coupon["name"] or coupon["id"],
            "terms": _terms(coupon, session["currency"]),
            "removable": code is not None and bool(session["allow_promotion_codes"]),
        }
    return None


def _terms(coupon: Object, currency: str) -> str:
    if coupon["percent_off"] is not None:
        off = f"{coupon['percent_off']:g}% off"
    else:
        off = f"{money_text(coupon['amount_off'] or 0, coupon['currency'] or currency)} off"
    if coupon["duration"] == "repeating":
        months = coupon["duration_in_months"]
        return f"{off} for {months} month{'' if months == 1 else 's'}"
    return f"{off} once" if coupon["duration"] == "once" else off


def _recurring(state: Sandbox, session: Object) -> list[tuple[str, int]]:
    """Return what the flat recurring lines cost each interval: [("month", 4900)]."""
    sums: dict[str, int] = {}
    for line in session["_lines"]:
        price = state.get("price", line["price"])
        if line["_recurring"] and not is_metered(price):
            amount = line_amount(price, line["quantity"] or 0, currency=line["currency"])
            sums[renewal_text(price)] = sums.get(renewal_text(price), 0) + amount
    return list(sums.items())


def _next_charge(state: Sandbox, session: Object) -> int:
    """Return when the next period begins, in unix seconds."""
    trial = trial_end_of(state, session)
    anchor: int | None = session["_subscription_data"].get("billing_cycle_anchor")
    if trial is not None or anchor is not None:
        return trial or anchor or 0
    prices = [state.get("price", each["price"]) for each in session["_lines"] if each["_recurring"]]
    return min(
        add_interval(
            state.now(), interval=each["recurring"]["interval"], count=each["recurring"]["interval_count"]
        )
        for each in prices
    )


def _line(state: Sandbox, line: Object, *, trial: bool) -> dict[str, Any]:
    price = state.get("price", line["price"])
    product = state.get("product", price["product"])
    currency = line["currency"]
    tiers = tiers_in(price, currency) if price["billing_scheme"] == "tiered" else []
    if is_metered(price):
        detail = f"Counted as you use it, billed each {renewal_text(price)}"
        amount = _unit_price(price, currency)
    else:
        each = money_text(line_amount(price, 1, currency=currency), currency)
        detail = f"{line['quantity']} × {each}"
        if line["_recurring"]:
            detail += f" each {renewal_text(price)}"
        amount = money_text(line_amount(price, line["quantity"], currency=currency), currency)
        if trial and line["_recurring"]:
            amount = "Free trial"
    return {
        "id": line["id"],
        "name": product["name"],
        "description": product["description"],
        "detail": detail,
        "amount": amount,
        "tiers": [
            f"{'Up to ' + format(tier['up_to'], ',') if tier['up_to'] else 'After that'}: {_tier(tier, currency)}"
            for tier in tiers
        ],
        "quantity": line["quantity"],
        "adjustable": line["adjustable_quantity"],
    }


def _unit_price(price: Object, currency: str) -> str:
    """Say what a metered unit costs; its tiers have lines of their own."""
    if price["billing_scheme"] != "per_unit":
        return "As used"
    sold = amount_in(price, currency) or price
    amount = decimal.Decimal(sold["unit_amount_decimal"])
    return f"{unit_text(amount, currency)} each" if amount else "Included"


def _tier(tier: Object, currency: str) -> str:
    parts = []
    if tier["unit_amount_decimal"] is not None:
        if tier["unit_amount"] == 0:
            parts.append("included")
        else:
            parts.append(f"{unit_text(decimal.Decimal(tier['unit_amount_decimal']), currency)} each")
    if tier["flat_amount"]:
        parts.append(f"{money_text(tier['flat_amount'], currency)} flat")
    return ", ".join(parts) or "included"
