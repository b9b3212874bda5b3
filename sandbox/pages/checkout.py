"""The hosted Checkout page: what is bought, a card form, and what a card form can get wrong."""

from __future__ import annotations

import decimal
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.amounts import line_amount, money_text, unit_text
from sandbox.cards import NEEDS_AUTHENTICATION, is_card_number
from sandbox.checkout import complete, due_today, needs_card, next_charge, renewal_text, trial_end_of
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscribing import is_metered

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

NO_AUTHENTICATION = "This card asks for 3-D Secure, which the sandbox does not do yet. Use another test card."


@dataclass
class Form:
    """What the payer typed and what is wrong with it, field by field."""

    email: str = ""
    name: str = ""
    number: str = ""
    expiry: str = ""
    cvc: str = ""
    errors: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] | None = None

    @classmethod
    def read(cls, state: Sandbox, request: Request, *, email: str | None, card_needed: bool) -> Form:
        text: dict[str, Any] = {
            name: request.form.get(name, "").strip()[:200]
            for name in ("email", "name", "number", "expiry", "cvc")
        }
        form = cls(**text)
        form.email = email or form.email
        if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+|[^@\s]+@localhost", form.email):
            form.errors["email"] = "Enter an e-mail address."
        if card_needed:
            form._read_card(state)
        return form

    def _read_card(self, state: Sandbox) -> None:
        number = re.sub(r"[\s-]", "", self.number)
        if not number:
            self.errors["number"] = "Enter a card number."
        elif not is_card_number(number):
            self.errors["number"] = "Your card number is invalid."
        elif number in NEEDS_AUTHENTICATION:
            self.errors["number"] = NO_AUTHENTICATION
        expiry = re.fullmatch(r"(\d{1,2})\s*/?\s*(\d{2}|\d{4})", self.expiry)
        month = year = 0
        if expiry is None or not 1 <= int(expiry[1]) <= 12:
            self.errors["expiry"] = "Your card's expiration date is incomplete. Write it as MM / YY."
        else:
            month, year = int(expiry[1]), int(expiry[2]) % 100 + 2000
            today = state.clock.today()
            if (year, month) < (today.year, today.month):
                self.errors["expiry"] = "Your card's expiration date is in the past."
        if not re.fullmatch(r"\d{4}" if number.startswith(("34", "37")) else r"\d{3}", self.cvc):
            self.errors["cvc"] = "Your card's security code is incomplete."
        if not self.name:
            self.errors["name"] = "Enter the name on the card."
        if not self.errors:
            self.card = {"number": number, "exp_month": month, "exp_year": year}


def _find(pages: Pages, identifier: str) -> Object:
    session = pages.sandbox.find("checkout.session", identifier)
    if session is None:
        raise NotFound("There is no such Checkout page.")
    return session


def show(pages: Pages, request: Request, *, id: str) -> Response:
    with pages.sandbox.lock:
        session = _find(pages, id)
        if session["status"] != "open":
            return _closed(pages, session)
        return _page(pages, session, Form(email=_known_email(pages.sandbox, session) or ""))


def submit(pages: Pages, request: Request, *, id: str) -> Response:
    """Complete the session and go on to its success_url, or show the page again with what went wrong.

    The lock makes a double click safe: the second press finds the session complete and is sent on too.
    """
    with pages.sandbox.change() as state:
        session = _find(pages, id)
        if session["status"] == "complete":
            return redirect(success_url(session), code=303)
        if session["status"] == "expired":
            return _closed(pages, session)
        form = Form.read(
            state, request, email=_known_email(state, session), card_needed=needs_card(state, session)
        )
        if form.errors:
            return _page(pages, session, form, status=422)
        decline = complete(state, session, email=form.email, name=form.name or None, card=form.card)
        if decline is not None:
            form.errors["card"] = decline.message
            return _page(pages, session, form, status=402)
        if pages.recorder is not None:
            pages.recorder.check_object(state.render(session), where="Checkout page")
        return redirect(success_url(session), code=303)


def success_url(session: Object) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _known_email(state: Sandbox, session: Object) -> str | None:
    return (session["customer_details"] or {}).get("email")


def _closed(pages: Pages, session: Object) -> Response:
    complete_ = session["status"] == "complete"
    context = {
        "title": "You're all done here" if complete_ else "This page has expired",
        "text": (
            "This Checkout session is complete: your payment went through. You can close this page."
            if complete_
            else "This Checkout session has timed out or was cancelled. Nothing was charged."
        ),
        "back": session["success_url"].split("?")[0] if complete_ else session["cancel_url"],
    }
    return pages.html("closed.html", context, status=200 if complete_ else 410)


def _page(pages: Pages, session: Object, form: Form, *, status: int = 200) -> Response:
    state = pages.sandbox
    lines = [_line(state, line) for line in session["_lines"]]
    total = due_today(state, session)
    first = state.get("price", session["_lines"][0]["price"])
    context = {
        "session": session,
        "form": form,
        "lines": lines,
        "total": total,
        "currency": session["currency"],
        "interval": renewal_text(first),
        "next_charge": next_charge(state, session),
        "trial": trial_end_of(state, session),
        "recurring": sum(line["amount_total"] for line in session["_lines"]),
        "known_email": _known_email(state, session),
        "card_needed": needs_card(state, session),
    }
    return pages.html("checkout.html", context, status=status)


def _line(state: Sandbox, line: Object) -> dict[str, Any]:
    price = state.get("price", line["price"])
    product = state.get("product", price["product"])
    currency = price["currency"]
    if is_metered(price):
        detail, amount = (
            f"Counted as you use it, billed each {renewal_text(price)}",
            _unit_price(price, currency),
        )
    else:
        each = money_text(line_amount(price, 1), currency)
        detail = f"{line['quantity']} × {each} each {renewal_text(price)}"
        amount = money_text(line["amount_total"], currency)
    tiers = [
        f"{'Up to ' + format(tier['up_to'], ',') if tier['up_to'] else 'After that'}: {_tier(tier, currency)}"
        for tier in price.get("_tiers", [])
    ]
    return {
        "name": product["name"],
        "description": product["description"],
        "detail": detail,
        "amount": amount,
        "tiers": tiers,
    }


def _unit_price(price: Object, currency: str) -> str:
    """Say what a metered unit costs; its tiers have lines of their own."""
    if price["billing_scheme"] != "per_unit":
        return "As used"
    amount = decimal.Decimal(price["unit_amount_decimal"])
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


RULES = [
    Rule("/c/pay/<id>", methods=["GET"], endpoint=show),
    Rule("/c/pay/<id>", methods=["POST"], endpoint=submit),
]
