"""The hosted customer portal: its first page, cards and billing details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.acting import demand
from sandbox.errors import ApiError, missing_resource
from sandbox.pages import portal_plans
from sandbox.pages.countries import COUNTRIES
from sandbox.pages.forms import ADDRESS, Form, address_values
from sandbox.pages.portal_view import overview
from sandbox.pages.visits import Visit, visited
from sandbox.payments.authenticating import authentication_url
from sandbox.payments.cards import Decline
from sandbox.payments.methods import new_card
from sandbox.payments.setting_up import confirm_setup, new_setup_intent
from sandbox.resources.billing_portal_configurations import REASONS, find_default, new_configuration
from sandbox.selling.checkout import NOT_AUTHENTICATED
from sandbox.selling.portal import in_use
from sandbox.store import Object

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

STEPS = {
    "payment_method_update": "cards/add",
    "subscription_cancel": "cancel",
    "subscription_update": "update",
    "subscription_update_confirm": "confirm",
}


def _home(visit: Visit, *, alert: str | None = None) -> Response:
    return visit.html("portal.html", {**overview(visit), "alert": alert}, status=422 if alert else 200)


@visited()
def enter(visit: Visit) -> Response:
    """Show the first page, or the one purpose the session was made for."""
    flow = visit.session["flow"]
    if flow is None:
        return _home(visit)
    step = STEPS[flow["type"]]
    details = flow.get(flow["type"])
    if details is None:
        return redirect(visit.url(step), code=303)
    query = ""
    for item in details.get("items", []):
        query = f"?price={item['price']}&quantity={item['quantity']}"
    return redirect(visit.url(f"subscriptions/{details['subscription']}/{step}") + query, code=303)


@visited()
def home(visit: Visit) -> Response:
    return _home(visit)


def _card_page(
    visit: Visit, *, alert: str | None = None, form: Form | None = None, status: int = 200
) -> Response:
    visit.need("payment_method_update")
    form = form or Form({})
    form.alert = alert or form.alert
    return visit.html("portal_card.html", {"form": form}, status=422 if alert else status)


@visited()
def ask_card(visit: Visit) -> Response:
    return _card_page(visit)


@visited(again=_card_page)
def add_card(visit: Visit) -> Response:
    """Set a card up for later charges. Its holder may have to authenticate first."""
    visit.need("payment_method_update")
    state = visit.state
    form = Form.of(visit.request.form)
    form.read_card(state)
    if form.card is None:
        return _card_page(visit, form=form, status=422)
    details = {"email": visit.customer["email"], "name": form.get("name")}
    method = new_card(
        state,
        form.card["number"],
        exp_month=form.card["exp_month"],
        exp_year=form.card["exp_year"],
        details=details,
    )
    intent = new_setup_intent(state, customer=visit.customer["id"])
    intent["_makes_default"] = bool(form.get("default")) or visit.flow_type == "payment_method_update"
    state.put(intent)
    result = confirm_setup(state, intent, method)
    if isinstance(result, Decline):
        form.alert = result.message
        return _card_page(visit, form=form, status=402)
    if intent["status"] == "requires_action":
        back = visit.url("cards/return")
        return redirect(authentication_url(state, intent, return_to=back), code=303)
    return _saved(visit, intent)


@visited(again=_card_page)
def card_back(visit: Visit) -> Response:
    """Receive a customer who has been to authenticate a new card."""
    intent = visit.state.find("setup_intent", visit.request.args.get("setup_intent", ""))
    if intent is None or intent["customer"] != visit.customer["id"]:
        return redirect(visit.url("home"), code=303)
    if intent["status"] == "succeeded":
        return _saved(visit, intent)
    return _card_page(visit, alert=NOT_AUTHENTICATED)


def _saved(visit: Visit, intent: Object) -> Response:
    method = visit.state.get("payment_method", intent["payment_method"])
    method["allow_redisplay"] = "always"
    visit.state.put(method)
    if intent.get("_makes_default") or visit.default_card is None:
        _make_default(visit, method["id"])
    return visit.finish("Your card has been saved.")


def _make_default(visit: Visit, method: str) -> None:
    demand(
        visit.state,
        "POST",
        f"/v1/customers/{visit.customer['id']}",
        {"invoice_settings[default_payment_method]": method},
    )


def _own_card(visit: Visit, identifier: str) -> Object:
    visit.need("payment_method_update")
    method = visit.state.find("payment_method", identifier)
    if method is None or method["customer"] != visit.customer["id"]:
        raise missing_resource("PaymentMethod", identifier)
    return method


@visited(again=_home)
def choose_card(visit: Visit, *, card: str) -> Response:
    _make_default(visit, _own_card(visit, card)["id"])
    return redirect(visit.url("home"), code=303)


@visited(again=_home)
def remove_card(visit: Visit, *, card: str) -> Response:
    method = _own_card(visit, card)
    if in_use(visit.state, visit.customer, method):
        raise ApiError("This card pays for a subscription. Choose another for it first.")
    demand(visit.state, "POST", f"/v1/payment_methods/{method['id']}/detach")
    return redirect(visit.url("home"), code=303)


def _details_page(visit: Visit, *, alert: str | None = None, form: Form | None = None) -> Response:
    visit.need("customer_update")
    customer = visit.customer
    known = {name: customer[name] or "" for name in ("email", "name", "phone")}
    form = form or Form({**known, **address_values(customer["address"])})
    form.alert = alert or form.alert
    context = {
        "form": form,
        "allowed": visit.features["customer_update"]["allowed_updates"],
        "tax_ids": [each for each in visit.state.every("tax_id") if each["customer"] == customer["id"]],
        "countries": COUNTRIES,
    }
    return visit.html("portal_details.html", context, status=422 if form.alert or form.errors else 200)


@visited()
def ask_details(visit: Visit) -> Response:
    return _details_page(visit)


def _details_again(visit: Visit, *, alert: str) -> Response:
    return _details_page(visit, alert=alert, form=Form.of(visit.request.form))


@visited(again=_details_again)
def save_details(visit: Visit) -> Response:
    """Write what the configuration lets customers change about themselves."""
    visit.need("customer_update")
    allowed = visit.features["customer_update"]["allowed_updates"]
    form = Form.of(visit.request.form)
    change: dict[str, str] = {}
    if "email" in allowed:
        change["email"] = form.read_email()
    change.update({name: form.get(name) for name in ("name", "phone") if name in allowed})
    tax_id = None
    if "address" in allowed and any(form.get(part) for part in ADDRESS):
        address = form.read_address(full=True)
        change.update({f"address[{part}]": text or "" for part, text in address.items()})
    if "tax_id" in allowed:
        if not form.get("country"):
            form.values["country"] = (visit.customer["address"] or {}).get("country") or ""
        tax_id = form.read_tax_id()
    if form.errors:
        return _details_page(visit, form=form)
    path = f"/v1/customers/{visit.customer['id']}"
    if change:
        demand(visit.state, "POST", path, change)
    if tax_id is not None:
        demand(visit.state, "POST", f"{path}/tax_ids", tax_id)
    return redirect(visit.url("home"), code=303)


@visited(again=_details_again)
def remove_tax_id(visit: Visit, *, tax_id: str) -> Response:
    visit.need("customer_update")
    if "tax_id" not in visit.features["customer_update"]["allowed_updates"]:
        raise ApiError("Tax IDs cannot be changed here.")
    demand(visit.state, "DELETE", f"/v1/customers/{visit.customer['id']}/tax_ids/{tax_id}")
    return redirect(visit.url("details"), code=303)


def settings(pages: Pages, request: Request) -> Response:
    """Show what Stripe keeps in its dashboard: whether the default configuration has been saved."""
    with pages.sandbox.lock:
        return pages.html("portal_settings.html", {"default": find_default(pages.sandbox)})


def save_settings(pages: Pages, request: Request) -> Response:
    """Make the default configuration, as saving the portal's settings does on Stripe."""
    with pages.sandbox.change() as state:
        if find_default(state) is None:
            new_configuration(state, {"features": DEFAULT_FEATURES}, is_default=True)
    return redirect("/settings/billing/portal", code=303)


def _login_configuration(pages: Pages, token: str) -> Object:
    for each in pages.sandbox.every("billing_portal.configuration"):
        if each["login_page"]["enabled"] and str(each["login_page"]["url"]).endswith(f"/{token}"):
            return each
    raise NotFound("There is no such page.")


def ask_login(pages: Pages, request: Request, *, token: str) -> Response:
    with pages.sandbox.lock:
        _login_configuration(pages, token)
        return pages.html("portal_login.html", {"form": Form({}), "link": None, "sent": False})


def login(pages: Pages, request: Request, *, token: str) -> Response:
    """Show the link that Stripe would send by mail; whether an address is known is not told otherwise."""
    with pages.sandbox.change() as state:
        configuration = _login_configuration(pages, token)
        form = Form.of(request.form)
        email = form.read_email().lower()
        if form.errors:
            return pages.html("portal_login.html", {"form": form, "link": None, "sent": False}, status=422)
        known = [
            each
            for each in state.newest("customer")
            if not each.get("deleted") and (each["email"] or "").lower() == email
        ]
        link = None
        if known:
            wish = {"customer": known[0]["id"], "configuration": configuration["id"]}
            link = demand(state, "POST", "/v1/billing_portal/sessions", wish)["url"]
        return pages.html("portal_login.html", {"form": form, "link": link, "sent": True})


DEFAULT_FEATURES = {
    "customer_update": {"allowed_updates": ["email", "address", "phone", "tax_id"], "enabled": True},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {
        "cancellation_reason": {"enabled": True, "options": list(REASONS)},
        "enabled": True,
        "mode": "at_period_end",
    },
}
HOME = "/p/session/<secret>"
RULES = [
    Rule(HOME, methods=["GET"], endpoint=enter),
    Rule(f"{HOME}/home", methods=["GET"], endpoint=home),
    Rule(f"{HOME}/cards/add", methods=["GET"], endpoint=ask_card),
    Rule(f"{HOME}/cards/add", methods=["POST"], endpoint=add_card),
    Rule(f"{HOME}/cards/return", methods=["GET"], endpoint=card_back),
    Rule(f"{HOME}/cards/<card>/default", methods=["POST"], endpoint=choose_card),
    Rule(f"{HOME}/cards/<card>/remove", methods=["POST"], endpoint=remove_card),
    Rule(f"{HOME}/details", methods=["GET"], endpoint=ask_details),
    Rule(f"{HOME}/details", methods=["POST"], endpoint=save_details),
    Rule(f"{HOME}/tax_ids/<tax_id>/remove", methods=["POST"], endpoint=remove_tax_id),
    *portal_plans.rules(HOME),
    Rule("/p/login/<token>", methods=["GET"], endpoint=ask_login),
    Rule("/p/login/<token>", methods=["POST"], endpoint=login),
    Rule("/settings/billing/portal", methods=["GET"], endpoint=settings),
    Rule("/settings/billing/portal", methods=["POST"], endpoint=save_settings),
]
