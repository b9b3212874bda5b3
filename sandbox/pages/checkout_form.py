"""What the Checkout page asks for, and the reading of what was sent."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.datastructures import MultiDict

from sandbox.catalog.promotions import refusal_of_code
from sandbox.pages.forms import ADDRESS, Form, address_values
from sandbox.selling.selling import Buyer
from sandbox.state import Sandbox
from sandbox.store import Object


@dataclass(frozen=True)
class Fields:
    """Which parts of the form a session shows. `address` is "full", "tax" (country and region) or None."""

    email: bool
    phone: bool
    address: str | None
    tax_id: bool
    tax_id_required: bool
    promotion_code: bool
    terms: bool
    news: bool
    save: bool

    @property
    def kept(self) -> tuple[str, ...]:
        """The fields that outlive one showing of the page. Card fields never do."""
        return ("email", "phone", "name", "business", "business_name", "tax_id", *ADDRESS)


def fields_of(state: Sandbox, session: Object) -> Fields:
    consents = session["consent_collection"] or {}
    tax_ids = session.get("tax_id_collection") or {"enabled": False, "required": "never"}
    options = session["saved_payment_method_options"] or {}
    may_change = session["customer"] is None or session["_customer_update"].get("address") == "auto"
    address = None
    if session["billing_address_collection"] == "required" or tax_ids["enabled"]:
        address = "full"
    elif session["automatic_tax"]["enabled"] and may_change:
        address = "tax"
    return Fields(
        email=(session["customer_details"] or {}).get("email") is None,
        phone=session["phone_number_collection"]["enabled"],
        address=address,
        tax_id=tax_ids["enabled"],
        tax_id_required=tax_ids.get("required") == "if_supported",
        promotion_code=bool(session["allow_promotion_codes"]),
        terms=consents.get("terms_of_service") == "required",
        news=consents.get("promotions") == "auto",
        save=options.get("payment_method_save") == "enabled" and session["customer"] is not None,
    )


def starting_form(state: Sandbox, session: Object, sent: MultiDict[str, str] | None = None) -> Form:
    """Return the form with what is known of the buyer under what was sent."""
    customer = state.find("customer", session["customer"]) if session["customer"] else None
    known: dict[str, str] = {}
    if customer is not None:
        known = {
            **address_values(customer["address"]),
            "phone": customer["phone"] or "",
            "business_name": customer["name"] or "",
        }
    form = Form.of(sent)
    form.values = {
        **{name: text for name, text in known.items() if text},
        **session["_typed"],
        **form.values,
    }
    email = (session["customer_details"] or {}).get("email")
    if email is not None:
        form.values["email"] = email
    cards = saved_cards(state, session)
    if sent is None and cards:
        form.values["saved"] = cards[0]["id"]
    elif form.get("saved") and form.get("saved") not in {each["id"] for each in cards}:
        form.values["saved"] = "new"
    return form


def saved_cards(state: Sandbox, session: Object) -> list[Object]:
    """Return the cards of a returning customer that the page may offer, newest first."""
    options = session["saved_payment_method_options"]
    if session["customer"] is None or options is None:
        return []
    return [
        each
        for each in state.newest("payment_method")
        if each["customer"] == session["customer"]
        and each["allow_redisplay"] in options["allow_redisplay_filters"]
    ]


def read_quantities(session: Object, form: Form) -> None:
    """Take over the quantities chosen, within the bounds the seller set."""
    for line in session["_lines"]:
        name = f"quantity_{line['id']}"
        bounds = line["adjustable_quantity"]
        if bounds is None or not form.get(name):
            continue
        text = form.get(name)
        if not text.isdecimal() or not bounds["minimum"] <= int(text) <= bounds["maximum"]:
            form.errors[name] = f"Choose a quantity from {bounds['minimum']} to {bounds['maximum']}."
        else:
            line["quantity"] = int(text)
    if session["mode"] != "setup" and not any(line["quantity"] != 0 for line in session["_lines"]):
        form.errors[f"quantity_{session['_lines'][0]['id']}"] = "Choose at least one item."


def apply_code(state: Sandbox, session: Object, form: Form) -> None:
    """Put the promotion code that was typed on the session, or note at its field why not."""
    text = form.get("promotion_code")
    if not fields_of(state, session).promotion_code or not text:
        form.errors["promotion_code"] = "Enter a promotion code."
        return
    code, refusal = refusal_of_code(
        state,
        text,
        customer=session["customer"],
        subtotal=sum(line["amount_subtotal"] for line in session["_lines"]),
        currency=session["currency"],
    )
    if code is None:
        form.errors["promotion_code"] = refusal or "This code is invalid."
        return
    session["discounts"] = [{"coupon": None, "promotion_code": code["id"]}]


def buyer_of(state: Sandbox, session: Object, form: Form, *, card_needed: bool) -> Buyer:
    """Return who buys, noting on the form what is missing. A card is read into `form.card`."""
    asked = fields_of(state, session)
    buyer = Buyer(email=form.get("email") or None)
    if card_needed or form.get("action") == "":
        buyer.email = form.read_email()
    if asked.phone:
        buyer.phone = form.need("phone", "Enter a phone number.") or None
    if card_needed and form.get("saved") in ("", "new"):
        form.read_card(state)
    buyer.name = form.get("name") or None
    if asked.address:
        buyer.address = form.read_address(full=asked.address == "full")
    if asked.tax_id:
        _read_tax_id(form, buyer, required=asked.tax_id_required)
    if asked.terms or asked.news:
        buyer.consent = {"promotions": None, "terms_of_service": None}
    if asked.terms and buyer.consent is not None:
        if form.get("terms"):
            buyer.consent["terms_of_service"] = "accepted"
        else:
            form.errors["terms"] = "Accept the terms to go on."
    if asked.news and buyer.consent is not None:
        buyer.consent["promotions"] = "opt_in" if form.get("news") else "opt_out"
    buyer.keeps_card = asked.save and bool(form.get("save"))
    return buyer


def _read_tax_id(form: Form, buyer: Buyer, *, required: bool) -> None:
    wanted = required or form.get("business") or form.get("tax_id")
    if not wanted:
        return
    if required and not form.get("tax_id"):
        form.errors["tax_id"] = "Enter a tax ID."
    buyer.tax_id = form.read_tax_id()
    buyer.business_name = form.need("business_name", "Enter the name of your business.") or None
