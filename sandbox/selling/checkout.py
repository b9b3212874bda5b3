"""What a Checkout session does: take a card, sell what is on it once the card has paid, expire.

The payment comes first and the subscription after it, so a declined card leaves no subscription behind.
"""

from typing import Any

from sandbox import ranks
from sandbox.agenda import due
from sandbox.errors import ApiError
from sandbox.invoices.invoicing import finalize
from sandbox.payments.cards import Decline
from sandbox.payments.methods import address as whole_address
from sandbox.payments.methods import keep
from sandbox.payments.paying import cancel, confirm, new_intent, when_settled
from sandbox.payments.setting_up import cancel_setup, confirm_setup, new_setup_intent
from sandbox.selling.selling import Buyer, Sale, draft_once, find_customer, note, read_sale, reckon, subscribe
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import settle

EXPIRES_AFTER = 24 * 3600
NOT_AUTHENTICATED = (
    "We are unable to authenticate your payment method. Please choose a different payment method and "
    "try again."
)
INTENT_FIELDS = (
    "capture_method",
    "receipt_email",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
)


def needs_card(session: Object, *, due: int) -> bool:
    """Return whether completing a session that now costs `due` minor units takes a card."""
    if session["mode"] == "payment":
        return due > 0
    return session["payment_method_collection"] != "if_required" or due > 0


def complete(state: Sandbox, session: Object, buyer: Buyer, method: Object | None) -> Decline | Object | None:
    """Charge or save the card and sell. Returns None once the session is complete.

    Returns the decline of a card that was refused, which leaves the session open, or the intent whose
    payer has to authenticate first: `resume` goes on from there. `method` is None where no card is needed.
    Raises ApiError for what a sale cannot be made of.
    """
    found = reckon(state, session, buyer)
    note(session, found)
    state.put(session)
    if method is None:
        _finish(state, session, buyer, None, None)
        return None
    if session["mode"] == "setup":
        intent = state.get("setup_intent", session["setup_intent"])
        decline = confirm_setup(state, intent, method)
    elif found.due > 0:
        intent = _payment(state, session, buyer, amount=found.due)
        decline = confirm(state, intent, method)
    else:
        intent = new_setup_intent(state, customer=session["customer"])
        decline = confirm_setup(state, intent, method)
    if decline is not None:
        return decline
    if intent["status"] == "requires_action":
        session["_attempt"] = {
            "buyer": buyer.as_dict(),
            "intent": intent["id"],
            "kind": intent["object"],
            "method": method["id"],
        }
        intent["_checkout"] = session["id"]
        state.put(session)
        return state.put(intent)
    _finish(state, session, buyer, method, intent)
    return None


def _payment(state: Sandbox, session: Object, buyer: Buyer, *, amount: int) -> Object:
    if session["mode"] == "subscription":
        return new_intent(
            state,
            amount=amount,
            currency=session["currency"],
            customer=session["customer"],
            description="Subscription creation",
        )
    given = session["_payment_intent_data"]
    keeps = "on_session" if buyer.keeps_card else None
    fields: dict[str, Any] = {name: given[name] for name in INTENT_FIELDS if name in given}
    if "shipping" in given:
        fields["shipping"] = {"carrier": None, "phone": None, "tracking_number": None, **given["shipping"]}
    return new_intent(
        state,
        amount=amount,
        currency=session["currency"],
        customer=session["customer"],
        description=given.get("description"),
        setup_future_usage=given.get("setup_future_usage", keeps),
        metadata={key: value for key, value in (given.get("metadata") or {}).items() if value},
        **fields,
    )


def resume(state: Sandbox, session: Object) -> str | None:
    """Go on with a session whose payer has been to authenticate. Returns why that failed, in words, or None.

    None with the session still open means that the payer has yet to authenticate.
    """
    attempt = session["_attempt"]
    if attempt is None or session["status"] != "open":
        return None
    intent = state.get(attempt["kind"], attempt["intent"])
    if intent["status"] in ("succeeded", "requires_capture"):
        method = state.get("payment_method", attempt["method"])
        _finish(state, session, Buyer(**attempt["buyer"]), method, intent)
        return None
    if intent["status"] == "requires_action":
        return None
    session["_attempt"] = None
    session["_typed"] = {**session["_typed"], **_typed(attempt["buyer"])}
    state.put(session)
    error = intent.get("last_payment_error") or intent.get("last_setup_error") or {}
    declined = error.get("type") == "card_error"
    return str(error["message"]) if declined else NOT_AUTHENTICATED


def _typed(buyer: dict[str, Any]) -> dict[str, str]:
    known = {name: buyer[name] for name in ("email", "name", "phone") if buyer[name]}
    return {**known, **{part: text for part, text in (buyer["address"] or {}).items() if text}}


@when_settled
def hear_of_payment(state: Sandbox, intent: Object, decline: Decline | None) -> None:
    """Complete a session once its payment has come, even if the payer's browser never returns."""
    session = state.find("checkout.session", intent.get("_checkout") or "")
    if session is not None and decline is None and intent["status"] in ("succeeded", "requires_capture"):
        resume(state, session)


def _finish(
    state: Sandbox, session: Object, buyer: Buyer, method: Object | None, intent: Object | None
) -> None:
    customer = _customer(state, session, buyer, intent)
    if method is not None:
        _keep(state, session, buyer, method, customer)
    if session["mode"] == "subscription" and customer is not None:
        paid = intent if intent is not None and intent["object"] == "payment_intent" else None
        card = method["id"] if method else None
        sale = subscribe(state, session, customer, method=card, paid_by=paid)
        if sale.subscription is not None:
            settle(state, sale.subscription, sale.invoice, None)
        note(session, read_sale(state, session, sale))
    elif session["mode"] == "payment":
        sale = _sold_once(state, session, customer, intent)
    else:
        sale = Sale(None)
    _close(state, session, buyer=buyer, customer=customer, sale=sale, intent=intent)


def _customer(state: Sandbox, session: Object, buyer: Buyer, intent: Object | None) -> Object | None:
    """Return whom the sale is to; None for a guest, of whom only the session knows."""
    if session["customer"] is None and session["customer_creation"] != "always":
        return None
    customer = find_customer(state, session, buyer)
    if intent is not None and intent["customer"] is None:
        intent["customer"] = customer["id"]
        state.put(intent)
        charge = state.find("charge", intent.get("latest_charge") or "")
        if charge is not None:
            charge["customer"] = customer["id"]
            state.put(charge)
    return customer


def _keep(state: Sandbox, session: Object, buyer: Buyer, method: Object, customer: Object | None) -> None:
    saves = (
        session["mode"] != "payment"
        or buyer.keeps_card
        or ("setup_future_usage" in session["_payment_intent_data"])
    )
    if not saves:
        return
    if method["customer"] is None or method["allow_redisplay"] == "unspecified":
        asked = session["_redisplay"] or ("always" if buyer.keeps_card else "limited")
        method["allow_redisplay"] = asked
        state.put(method)
    if customer is not None:
        keep(state, method, customer=customer["id"])


def _sold_once(state: Sandbox, session: Object, customer: Object | None, intent: Object | None) -> Sale:
    if not session["invoice_creation"]["enabled"] or customer is None:
        return Sale(None)
    sale = draft_once(state, session, customer)
    if sale.invoice is not None:
        finalize(state, sale.invoice, paid_by=intent)
    return sale


def _close(
    state: Sandbox,
    session: Object,
    *,
    buyer: Buyer,
    customer: Object | None,
    sale: Sale,
    intent: Object | None,
) -> None:
    paid = intent is not None and intent["object"] == "payment_intent" and intent["status"] == "succeeded"
    session.update(
        customer=customer["id"] if customer else None,
        consent=buyer.consent,
        customer_details=_details(state, session, buyer, customer),
        invoice=sale.invoice["id"] if sale.invoice else None,
        status="complete",
        subscription=sale.subscription["id"] if sale.subscription else None,
        url=None,
        payment_status="paid" if paid else "no_payment_required",
        _attempt=None,
    )
    if session["mode"] == "payment" and intent is not None:
        session["payment_intent"] = intent["id"]
        session["payment_status"] = "paid" if paid else "unpaid"
    if session["collected_information"] is not None:
        session["collected_information"]["business_name"] = buyer.business_name
    state.agenda.drop("checkout.session.expire", identifier=session["id"])
    state.put(session)
    state.emit("checkout.session.completed", session)


def _details(state: Sandbox, session: Object, buyer: Buyer, customer: Object | None) -> Object:
    known = customer or {}
    return {
        "address": whole_address(buyer.address) if buyer.address else known.get("address"),
        "business_name": buyer.business_name,
        "email": buyer.email or known.get("email"),
        "individual_name": None,
        "name": buyer.business_name or buyer.name or known.get("name"),
        "phone": buyer.phone or known.get("phone"),
        "tax_exempt": known.get("tax_exempt", "none"),
        "tax_ids": [buyer.tax_id] if buyer.tax_id else [],
    }


def expire(state: Sandbox, session: Object) -> None:
    """Close an open session unsold. A payment that waits for its payer is given up with it."""
    attempt = session["_attempt"]
    session.update(status="expired", url=None, _attempt=None)
    state.put(session)
    state.agenda.drop("checkout.session.expire", identifier=session["id"])
    if attempt is not None and attempt["kind"] == "payment_intent":
        intent = state.get("payment_intent", attempt["intent"])
        if intent["status"] == "requires_action":
            cancel(state, intent, reason="abandoned")
    elif session["setup_intent"] is not None:
        setup = state.get("setup_intent", session["setup_intent"])
        if setup["status"] not in ("succeeded", "canceled"):
            cancel_setup(state, setup, reason="abandoned")
    state.emit("checkout.session.expired", session)


@due("checkout.session.expire", rank=ranks.EXPIRY)
def expire_when_due(state: Sandbox, identifier: str) -> None:
    session = state.get("checkout.session", identifier)
    if session["status"] == "open":
        expire(state, session)


def check_open(session: Object) -> None:
    """Raise ApiError (400) for a session that can no longer be paid."""
    if session["status"] != "open":
        raise ApiError(f"This Checkout Session is {session['status']} and can no longer be completed.")
