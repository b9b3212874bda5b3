"""One request to the customer portal: whose it is, what it may do, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import Forbidden
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.acting import message_of
from sandbox.errors import ApiError
from sandbox.selling.portal import find_session, keep_alive
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.timeline import clock_of

if TYPE_CHECKING:
    from sandbox.pages.site import Pages


@dataclass
class Visit:
    """A customer in the portal, inside a change and on the customer's clock."""

    pages: Pages
    request: Request
    state: Sandbox
    session: Object
    customer: Object
    configuration: Object

    @property
    def features(self) -> dict[str, Any]:
        return dict(self.configuration["features"])

    @property
    def flow_type(self) -> str | None:
        return self.session["flow"]["type"] if self.session["flow"] else None

    @property
    def default_card(self) -> str | None:
        found: str | None = self.customer["invoice_settings"]["default_payment_method"]
        return found

    def need(self, feature: str) -> None:
        """Raise Forbidden where the configuration does not offer a feature."""
        if not self.features[feature]["enabled"]:
            raise Forbidden("The seller does not offer this here.")

    def url(self, path: str = "") -> str:
        return f"{self.session['url']}/{path}" if path else str(self.session["url"])

    def html(self, template: str, context: Mapping[str, Any], *, status: int = 200) -> Response:
        shared = {
            "base": self.url(),
            "return_url": self.session["return_url"],
            "customer": self.customer,
            "configuration": self.configuration,
            "features": self.features,
        }
        return self.pages.html(template, {**shared, **context}, status=status)

    def finish(self, text: str) -> Response:
        """Go where the session's flow goes once it is done, else back to the first page."""
        afterwards = self.session["flow"]["after_completion"] if self.session["flow"] else None
        if afterwards is not None and afterwards["type"] == "redirect":
            return redirect(afterwards["redirect"]["return_url"], code=303)
        if afterwards is not None and afterwards["type"] == "hosted_confirmation":
            message = afterwards["hosted_confirmation"]["custom_message"]
            return self.html("portal_done.html", {"title": text, "text": message})
        return redirect(self.url("home"), code=303)


View = Callable[..., Response]


def visited(*, again: View | None = None) -> Callable[[View], View]:
    """Wrap a page of the portal: find who visits, hold the change, and show `again` with a refusal's words.

    A refusal undoes the change. A link that is unknown or has died answers 410.
    """

    def wrap(view: View) -> View:
        def answer(pages: Pages, request: Request, *, secret: str, **args: str) -> Response:
            try:
                return _visit(pages, request, secret, view, **args)
            except ApiError as error:
                refusal = error
            kept = {name: value for name, value in args.items() if name not in ("card", "tax_id")}
            try:
                if again is not None:
                    return _visit(pages, request, secret, again, alert=message_of(refusal), **kept)
            except ApiError as error:
                refusal = error
            context = {"title": "That did not work", "text": message_of(refusal), "back": None}
            return pages.html("closed.html", context, status=404 if refusal.status == 404 else 422)

        return answer

    return wrap


def _visit(pages: Pages, request: Request, secret: str, view: View, **args: str) -> Response:
    with pages.sandbox.change() as state:
        session = find_session(state, secret)
        if session is None:
            context = {
                "title": "This link has expired",
                "text": "For your safety, links to this page work for a short time only. Ask the seller's site "
                "for a new one.",
                "back": None,
            }
            return pages.html("closed.html", context, status=410)
        keep_alive(state, session)
        customer = state.get_customer(session["customer"], status=404)
        configuration = state.get("billing_portal.configuration", session["configuration"])
        with state.on_clock(clock_of(state, customer)):
            return view(Visit(pages, request, state, session, customer, configuration), **args)
