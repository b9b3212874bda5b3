"""The private endpoints behind the Checkout page, which Stripe's own command line drives in its fixtures."""

from typing import Any

from sandbox.errors import ApiError, missing_parameter
from sandbox.params import ADDRESS, BOOL, ID, STR, Int, Obj, Str
from sandbox.payments.cards import Decline
from sandbox.payments.challenge import next_action
from sandbox.payments.methods import usable
from sandbox.routing import Call, get, post
from sandbox.selling.checkout import check_open, complete, needs_card
from sandbox.selling.selling import Buyer, note, reckon
from sandbox.state import Sandbox
from sandbox.store import Object


def _find(call: Call) -> Object:
    return call.state.get("checkout.session", call.args["id"], noun="payment_page", param="payment_page")


def _page(state: Sandbox, session: Object, *, intent: Object | None = None) -> Object:
    shown: dict[str, Any] = {
        **state.render(session),
        "object": "checkout.session",
        "session_id": session["id"],
    }
    if intent is not None:
        shown[intent["object"]] = {**state.render(intent), "next_action": next_action(state, intent)}
    return shown


@get("/v1/payment_pages/<id>", {"key": STR})
def retrieve(call: Call) -> Object:
    state = call.state
    session = _find(call)
    if session["status"] == "open":
        note(session, reckon(state, session, _buyer(session, None)))
    return _page(state, session)


def _buyer(session: Object, method: Object | None) -> Buyer:
    details = method["billing_details"] if method else {}
    known = (session["customer_details"] or {}).get("email")
    address = details.get("address")
    return Buyer(
        email=known or details.get("email"),
        name=details.get("name"),
        phone=details.get("phone"),
        address=address if address and any(address.values()) else None,
    )


@post(
    "/v1/payment_pages/<id>/confirm",
    {
        "payment_method": ID,
        "expected_amount": Int(min=0),
        "expected_payment_method_type": Str(max=100),
        "consent": Obj({"terms_of_service": STR, "promotions": STR}),
        "eid": STR,
        "key": STR,
        "return_url": STR,
        "save_payment_method": BOOL,
        "shipping": Obj({"address": ADDRESS, "name": STR}),
    },
)
def confirm(call: Call) -> Object | ApiError:
    """Complete the session with a card, as its page does; a decline keeps what it left behind."""
    state, params = call.state, call.params
    session = _find(call)
    check_open(session)
    method = None
    if "payment_method" in params:
        method = usable(state, params["payment_method"], customer=session["customer"], on="Checkout Session")
    buyer = _buyer(session, method)
    if buyer.email is None:
        raise missing_parameter("payment_method[billing_details][email]")
    found = reckon(state, session, buyer)
    expected = params.get("expected_amount", found.due)
    if session["mode"] != "setup" and expected != found.due:
        raise ApiError(
            f"The expected amount {expected} does not match the amount of the Checkout Session, {found.due}.",
            code="checkout_amount_mismatch",
            param="expected_amount",
        )
    if method is None and needs_card(session, due=found.due):
        raise missing_parameter("payment_method")
    result = complete(state, session, buyer, method if needs_card(session, due=found.due) else None)
    if isinstance(result, Decline):
        return result.error()
    return _page(state, session, intent=result)
