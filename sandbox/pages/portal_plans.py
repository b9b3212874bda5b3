"""The portal's pages about one subscription: cancel, resume, another card, another plan."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import Forbidden
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from sandbox.acting import demand
from sandbox.catalog.promotions import refusal_of_code
from sandbox.errors import ApiError, missing_resource
from sandbox.pages.forms import Form
from sandbox.pages.portal_view import plan, price_text
from sandbox.pages.visits import Visit, visited
from sandbox.payments.authenticating import authentication_url
from sandbox.selling.checkout import NOT_AUTHENTICATED
from sandbox.selling.portal import (
    Offer,
    cancel_form,
    cards_of,
    change_form,
    change_refusal,
    may_cancel,
    may_resume,
    offers,
    raise_for_payment,
    resume_form,
    schedule_form,
    waits_for_period_end,
)
from sandbox.store import Object
from sandbox.subscriptions.subscribing import items_of

REASONS = {
    "too_expensive": "It's too expensive",
    "missing_features": "I need more features",
    "switched_service": "I found an alternative",
    "unused": "I no longer need it",
    "customer_service": "Customer service was less than expected",
    "too_complex": "Ease of use was less than expected",
    "low_quality": "Quality was less than expected",
    "other": "Other reason",
}


def _own(visit: Visit, identifier: str) -> Object:
    found = visit.state.find("subscription", identifier)
    if found is None or found["customer"] != visit.customer["id"]:
        raise missing_resource("subscription", identifier)
    return found


def _cancel_page(visit: Visit, *, subscription: str, alert: str | None = None) -> Response:
    visit.need("subscription_cancel")
    found = _own(visit, subscription)
    if not may_cancel(found):
        return redirect(visit.url("home"), code=303)
    form = Form({}, alert=alert)
    rules = visit.features["subscription_cancel"]
    context = {
        "form": form,
        "plan": plan(visit, found),
        "ends": max(each["current_period_end"] for each in items_of(visit.state, found)),
        "now": rules["mode"] == "immediately",
        "reasons": {
            each: REASONS[each]
            for each in rules["cancellation_reason"]["options"]
            if rules["cancellation_reason"]["enabled"]
        },
    }
    return visit.html("portal_cancel.html", context, status=422 if alert else 200)


@visited()
def ask_cancel(visit: Visit, *, subscription: str) -> Response:
    return _cancel_page(visit, subscription=subscription)


@visited(again=_cancel_page)
def cancel(visit: Visit, *, subscription: str) -> Response:
    """End the subscription now or at the end of its period, as configured. A second press changes nothing."""
    visit.need("subscription_cancel")
    found = _own(visit, subscription)
    if not may_cancel(found):
        return redirect(visit.url("home"), code=303)
    sent = Form.of(visit.request.form)
    asks = visit.features["subscription_cancel"]["cancellation_reason"]
    feedback = sent.get("feedback") if asks["enabled"] and sent.get("feedback") in asks["options"] else None
    form = cancel_form(visit.configuration, feedback=feedback, comment=sent.get("comment") or None)
    now = visit.features["subscription_cancel"]["mode"] == "immediately"
    demand(visit.state, "DELETE" if now else "POST", f"/v1/subscriptions/{found['id']}", form)
    return visit.finish("Your subscription has been canceled.")


@visited()
def resume(visit: Visit, *, subscription: str) -> Response:
    visit.need("subscription_cancel")
    found = _own(visit, subscription)
    if may_resume(found):
        demand(visit.state, "POST", f"/v1/subscriptions/{found['id']}", resume_form(found))
    return redirect(visit.url("home"), code=303)


def _which_card(visit: Visit, *, subscription: str, alert: str | None = None) -> Response:
    visit.need("payment_method_update")
    context = {
        "plan": plan(visit, _own(visit, subscription)),
        "cards": cards_of(visit.state, visit.customer["id"]),
        "form": Form({}, alert=alert),
    }
    return visit.html("portal_plan_card.html", context, status=422 if alert else 200)


@visited()
def ask_plan_card(visit: Visit, *, subscription: str) -> Response:
    return _which_card(visit, subscription=subscription)


@visited(again=_which_card)
def set_plan_card(visit: Visit, *, subscription: str) -> Response:
    visit.need("payment_method_update")
    found = _own(visit, subscription)
    chosen = visit.request.form.get("card", "")
    if chosen not in {each["id"] for each in cards_of(visit.state, visit.customer["id"])}:
        raise ApiError("Choose a card.")
    demand(visit.state, "POST", f"/v1/subscriptions/{found['id']}", {"default_payment_method": chosen})
    return redirect(visit.url("home"), code=303)


def _changeable(visit: Visit, identifier: str) -> Object:
    found = _own(visit, identifier)
    refusal = change_refusal(visit.state, visit.configuration, found)
    if refusal is not None:
        raise Forbidden(f"This subscription cannot be updated because {refusal}")
    return found


@visited()
def ask_plan(visit: Visit, *, subscription: str) -> Response:
    found = _changeable(visit, subscription)
    rows = [
        {
            "offer": each,
            "text": price_text(each.price, 1, found["currency"]),
        }
        for each in offers(visit.state, visit.configuration, found)
    ]
    return visit.html("portal_update.html", {"plan": plan(visit, found), "rows": rows})


def _chosen(visit: Visit, found: Object, form: Form) -> tuple[Offer, int]:
    """Return the offer and quantity asked for. Raises ApiError for what the configuration does not offer."""
    offer = next(
        (
            each
            for each in offers(visit.state, visit.configuration, found)
            if each.price["id"] == form.get("price")
        ),
        None,
    )
    if offer is None:
        raise ApiError("Choose one of the plans offered.")
    text = form.get("quantity") or str(offer.quantity)
    quantity = int(text) if text.isdecimal() else -1
    if quantity != offer.quantity and (
        not offer.adjustable or quantity < offer.least or (offer.most is not None and quantity > offer.most)
    ):
        upper = "" if offer.most is None else f" to {offer.most}"
        raise ApiError(f"Choose a quantity from {offer.least}{upper}.")
    return offer, quantity


def _confirm_page(visit: Visit, *, subscription: str, alert: str | None = None) -> Response:
    state = visit.state
    found = _changeable(visit, subscription)
    sent = visit.request.form if visit.request.method == "POST" else visit.request.args
    form = Form.of(sent)
    form.alert = alert
    offer, quantity = _chosen(visit, found, form)
    (item,) = items_of(state, found)
    code = _code(visit, found, form)
    later = waits_for_period_end(state, visit.configuration, item, price=offer.price, quantity=quantity)
    same = (offer.price["id"], quantity) == (item["price"], item["quantity"]) and code is None
    context: dict[str, Any] = {
        "plan": plan(visit, found),
        "offer": offer,
        "quantity": quantity,
        "text": price_text(offer.price, quantity, found["currency"]),
        "same": same,
        "later": item["current_period_end"] if later else None,
        "due": None,
        "form": form,
        "code_field": "promotion_code" in visit.features["subscription_update"]["default_allowed_updates"],
        "currency": found["currency"],
    }
    if not later and not same:
        context["due"] = _due_now(
            visit, found, _change(visit, found, offer=offer, quantity=quantity, code=code)
        )
    return visit.html("portal_confirm.html", context, status=422 if alert or form.errors else 200)


def _code(visit: Visit, found: Object, form: Form) -> str | None:
    """Return the id of the promotion code to redeem; the form's own, or the flow's."""
    allowed = visit.features["subscription_update"]["default_allowed_updates"]
    if form.get("promotion_code") and "promotion_code" in allowed:
        code, refusal = refusal_of_code(
            visit.state,
            form.get("promotion_code"),
            customer=visit.customer["id"],
            subtotal=0,
            currency=found["currency"],
        )
        if code is None:
            form.errors["promotion_code"] = refusal or "This code is invalid."
            return None
        return str(code["id"])
    details = (visit.session["flow"] or {}).get("subscription_update_confirm") or {}
    for each in details.get("discounts") or []:
        return each["promotion_code"]
    return None


def _change(visit: Visit, found: Object, *, offer: Offer, quantity: int, code: str | None) -> dict[str, str]:
    (item,) = items_of(visit.state, found)
    form = change_form(visit.configuration, found, item, price=offer.price, quantity=quantity, code=code)
    if form["proration_behavior"] == "always_invoice":
        form["payment_behavior"] = "error_if_incomplete" if code else "pending_if_incomplete"
    return form


def _due_now(visit: Visit, found: Object, form: dict[str, str]) -> Object | None:
    """Return the invoice that the change would bring at once, by making it in scratch; None for none."""
    state = visit.state
    # What is due does not depend on whether the card pays.
    trial = {**form, "payment_behavior": "default_incomplete"}
    with state.scratch():
        changed = demand(state, "POST", f"/v1/subscriptions/{found['id']}", trial)
        if changed["latest_invoice"] == found["latest_invoice"]:
            return None
        return state.render(state.get("invoice", changed["latest_invoice"]))


@visited()
def ask_confirm(visit: Visit, *, subscription: str) -> Response:
    return _confirm_page(visit, subscription=subscription)


@visited(again=_confirm_page)
def confirm(visit: Visit, *, subscription: str) -> Response:
    """Make the change now, or put it off to the end of the period where the configuration says so."""
    state = visit.state
    found = _changeable(visit, subscription)
    form = Form.of(visit.request.form)
    offer, quantity = _chosen(visit, found, form)
    (item,) = items_of(state, found)
    code = _code(visit, found, form)
    if form.errors or form.get("action") == "apply":
        return _confirm_page(visit, subscription=subscription)
    if waits_for_period_end(state, visit.configuration, item, price=offer.price, quantity=quantity):
        made = demand(state, "POST", "/v1/subscription_schedules", {"from_subscription": found["id"]})
        later = schedule_form(made, price=offer.price, quantity=quantity)
        demand(state, "POST", f"/v1/subscription_schedules/{made['id']}", later)
        return visit.finish("Your plan will change at the end of this period.")
    change = _change(visit, found, offer=offer, quantity=quantity, code=code)
    demand(state, "POST", f"/v1/subscriptions/{found['id']}", change)
    intent = raise_for_payment(state, state.get("subscription", found["id"]))
    if intent is not None:
        back = visit.url(f"subscriptions/{found['id']}/return")
        return redirect(authentication_url(state, intent, return_to=back), code=303)
    return visit.finish("Your plan has been changed.")


@visited()
def change_back(visit: Visit, *, subscription: str) -> Response:
    """Receive a customer who has been to authenticate the payment of a change."""
    found = _own(visit, subscription)
    if found["pending_update"] is None:
        return visit.finish("Your plan has been changed.")
    context = {"title": "Your plan has not been changed", "text": NOT_AUTHENTICATED}
    return visit.html("portal_done.html", context, status=402)


@visited()
def keep_plan(visit: Visit, *, subscription: str) -> Response:
    """Take back a change that waits for the end of the period."""
    visit.need("subscription_update")
    found = _own(visit, subscription)
    if found["schedule"] is not None:
        demand(visit.state, "POST", f"/v1/subscription_schedules/{found['schedule']}/release")
    return redirect(visit.url("home"), code=303)


def rules(home: str) -> list[Rule]:
    one = f"{home}/subscriptions/<subscription>"
    return [
        Rule(f"{one}/cancel", methods=["GET"], endpoint=ask_cancel),
        Rule(f"{one}/cancel", methods=["POST"], endpoint=cancel),
        Rule(f"{one}/resume", methods=["POST"], endpoint=resume),
        Rule(f"{one}/card", methods=["GET"], endpoint=ask_plan_card),
        Rule(f"{one}/card", methods=["POST"], endpoint=set_plan_card),
        Rule(f"{one}/update", methods=["GET"], endpoint=ask_plan),
        Rule(f"{one}/confirm", methods=["GET"], endpoint=ask_confirm),
        Rule(f"{one}/confirm", methods=["POST"], endpoint=confirm),
        Rule(f"{one}/return", methods=["GET"], endpoint=change_back),
        Rule(f"{one}/keep", methods=["POST"], endpoint=keep_plan),
    ]
