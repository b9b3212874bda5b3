"""The hosted Checkout page: what is bought, and the form that pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.errors import ApiError
from sandbox.pages.checkout_form import (
    apply_code,
    buyer_of,
    fields_of,
    read_quantities,
    saved_cards,
    starting_form,
)
from sandbox.pages.checkout_view import view
from sandbox.pages.forms import Form
from sandbox.payments.authenticating import authentication_url
from sandbox.payments.cards import Decline
from sandbox.payments.methods import new_card
from sandbox.selling.checkout import complete, needs_card, resume
from sandbox.selling.selling import Buyer, Reckoning, note, reckon
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.timeline import clock_of

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

# What each button checks before it shows the page again: the fields that begin so; "" is all.
STAYS = {"apply": "promotion_code", "remove": "promotion_code", "quantity": "quantity_", "update": ""}
CARD = ("number", "expiry", "cvc", "saved")


def _find(pages: Pages, identifier: str) -> Object:
    session = pages.sandbox.find("checkout.session", identifier)
    if session is None:
        raise NotFound("There is no such Checkout page.")
    return session


def show(pages: Pages, request: Request, *, id: str) -> Response:
    with pages.sandbox.change() as state:
        session = _find(pages, id)
        with state.on_clock(clock_of(state, session)):
            if session["status"] != "open":
                return _closed(pages, session)
            return _page(pages, session, starting_form(state, session))


def submit(pages: Pages, request: Request, *, id: str) -> Response:
    """Complete the session and go on to its success_url, or show the page again with what went wrong.

    The lock makes a double click safe: the second press finds the session complete and is sent on too.
    """
    with pages.sandbox.change() as state:
        session = _find(pages, id)
        with state.on_clock(clock_of(state, session)):
            if session["status"] == "complete":
                return redirect(success_url(session), code=303)
            if session["status"] == "expired":
                return _closed(pages, session)
            form = starting_form(state, session, request.form)
            read_quantities(session, form)
            action = form.get("action")
            if not action and _only_code(state, session, form):
                action = "apply"
            if action in STAYS:
                return _stay(pages, session, form, action)
            return _pay(pages, session, form)


def _stay(pages: Pages, session: Object, form: Form, action: str) -> Response:
    """Change what is bought or for whom, and show the page with its new total."""
    state = pages.sandbox
    if action == "apply":
        apply_code(state, session, form)
    elif action == "remove":
        session["discounts"] = []
    buyer = Buyer() if action == "remove" else buyer_of(state, session, form, card_needed=False)
    # The rest is checked when it is sent.
    form.errors = {name: text for name, text in form.errors.items() if name.startswith(STAYS[action])}
    asked = fields_of(state, session)
    session["_typed"] = {name: form.get(name) for name in asked.kept if form.get(name)}
    if not form.errors:
        _try_reckoning(state, session, form, buyer)
    state.put(session)
    return _page(pages, session, form, status=422 if form.errors or form.alert else 200)


def _only_code(state: Sandbox, session: Object, form: Form) -> bool:
    """Return whether Enter was pressed in the field of the promotion code, rather than to pay."""
    return _typed_code(state, session, form) and not any(form.get(name) for name in CARD)


def _typed_code(state: Sandbox, session: Object, form: Form) -> bool:
    asked = fields_of(state, session).promotion_code and not session["discounts"]
    return asked and bool(form.get("promotion_code"))


def _try_reckoning(state: Sandbox, session: Object, form: Form, buyer: Buyer) -> Reckoning | None:
    """Return what the session costs this buyer, noted on it; None where the form now says why it cannot be."""
    try:
        found = reckon(state, session, buyer)
    except ApiError as error:
        body = error.body["error"]
        if body.get("param") in ("value", "type"):
            form.errors["tax_id"] = body["message"]
        else:
            form.alert = body["message"]
        return None
    note(session, found)
    return found


def _pay(pages: Pages, session: Object, form: Form) -> Response:
    state = pages.sandbox
    if _typed_code(state, session, form):
        # Whoever typed a code and then pays means to pay with it.
        apply_code(state, session, form)
    known = _try_reckoning(state, session, Form({}), Buyer(email=form.get("email")))
    card_needed = needs_card(session, due=known.due if known else 1)
    buyer = buyer_of(state, session, form, card_needed=card_needed)
    if form.errors:
        return _page(pages, session, form, status=422)
    found = _try_reckoning(state, session, form, buyer)
    state.put(session)
    if found is None:
        return _page(pages, session, form, status=422)
    if form.get("expected") and form.get("expected") != str(found.due):
        form.notice = "The total has changed with what you entered. Check it, then confirm."
        return _page(pages, session, form, status=422)
    if not needs_card(session, due=found.due):
        return _outcome(pages, session, form, complete(state, session, buyer, None))
    saved = form.get("saved")
    if saved and saved != "new":
        method = next(each for each in saved_cards(state, session) if each["id"] == saved)
        method = state.get("payment_method", method["id"])
    elif form.card is not None:
        method = new_card(
            state,
            form.card["number"],
            exp_month=form.card["exp_month"],
            exp_year=form.card["exp_year"],
            details={
                "email": buyer.email,
                "name": form.get("name") or None,
                "phone": buyer.phone,
                "address": buyer.address,
            },
        )
    else:
        form.errors["number"] = "Enter a card number."
        return _page(pages, session, form, status=422)
    return _outcome(pages, session, form, complete(state, session, buyer, method))


def _outcome(pages: Pages, session: Object, form: Form, result: Decline | Object | None) -> Response:
    state = pages.sandbox
    if isinstance(result, Decline):
        form.alert = result.message
        return _page(pages, session, form, status=402)
    if result is not None:
        back = f"{state.base_url}/c/pay/{session['id']}/return"
        return redirect(authentication_url(state, result, return_to=back), code=303)
    return _done(pages, session)


def come_back(pages: Pages, request: Request, *, id: str) -> Response:
    """Receive a payer who has been to authenticate: on to the seller, or back to the form with the reason."""
    with pages.sandbox.change() as state:
        session = _find(pages, id)
        with state.on_clock(clock_of(state, session)):
            words = resume(state, session)
            if session["status"] == "complete":
                return _done(pages, session)
            if session["status"] == "expired":
                return _closed(pages, session)
            form = starting_form(state, session)
            form.alert = words
            return _page(pages, session, form, status=402 if words else 200)


def _done(pages: Pages, session: Object) -> Response:
    if pages.recorder is not None:
        pages.recorder.check_object(pages.sandbox.render(session), where="Checkout page")
    return redirect(success_url(session), code=303)


def success_url(session: Object) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _closed(pages: Pages, session: Object) -> Response:
    complete_ = session["status"] == "complete"
    message = (session["custom_text"]["after_submit"] or {}).get("message") if complete_ else None
    context = {
        "title": "You're all done here" if complete_ else "This page has expired",
        "text": message
        or (
            "This Checkout session is complete. You can close this page."
            if complete_
            else "This Checkout session has timed out or was cancelled. Nothing was charged."
        ),
        "back": session["success_url"].split("?")[0] if complete_ else session["cancel_url"],
    }
    return pages.html("closed.html", context, status=200 if complete_ else 410)


def _page(pages: Pages, session: Object, form: Form, *, status: int = 200) -> Response:
    return pages.html("checkout.html", view(pages.sandbox, session, form), status=status)


RULES = [
    Rule("/c/pay/<id>", methods=["GET"], endpoint=show),
    Rule("/c/pay/<id>", methods=["POST"], endpoint=submit),
    Rule("/c/pay/<id>/return", methods=["GET"], endpoint=come_back),
]
