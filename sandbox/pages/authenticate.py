"""The bank's page of a 3-D Secure challenge, where a tester says whether the card's holder passes it."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from werkzeug.exceptions import NotFound
from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.payments.authenticating import authenticate, return_url
from sandbox.store import Object
from sandbox.timeline import clock_of

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

KINDS = {"pi_": "payment_intent", "seti_": "setup_intent"}
CHOICES = ("complete", "fail")


def _find(pages: Pages, request: Request, identifier: str) -> Object:
    """Return the intent. Raises NotFound also where the secret is wrong, so that ids cannot be probed."""
    kind = next((kind for prefix, kind in KINDS.items() if identifier.startswith(prefix)), None)
    found = pages.sandbox.find(kind, identifier) if kind else None
    given = request.args.get("client_secret", "")
    if found is None or not hmac.compare_digest(found["client_secret"].encode(), given.encode()):
        raise NotFound("There is no such authentication.")
    return found


def show(pages: Pages, request: Request, *, id: str) -> Response:
    with pages.sandbox.lock:
        intent = _find(pages, request, id)
        if intent["status"] != "requires_action":
            return _onward(pages, intent)
        return _page(pages, request, intent)


def submit(pages: Pages, request: Request, *, id: str) -> Response:
    """Finish the challenge and send the browser on. A second press of a button changes nothing."""
    with pages.sandbox.change() as state:
        intent = _find(pages, request, id)
        choice = request.form.get("result")
        if intent["status"] == "requires_action":
            if choice not in CHOICES:
                return _page(pages, request, intent, status=422)
            with state.on_clock(clock_of(state, intent)):
                authenticate(state, intent, passed=choice == "complete")
        if pages.recorder is not None:
            pages.recorder.check_object(state.render(intent), where="3-D Secure page")
        return _onward(pages, intent)


def _page(pages: Pages, request: Request, intent: Object, *, status: int = 200) -> Response:
    method = pages.sandbox.get("payment_method", intent["payment_method"])
    context = {
        "title": "Confirm that it is you",
        "text": "The bank of this card asks its holder to authenticate (3-D Secure). Choose what they do.",
        "card": method["card"],
        "amount": intent.get("amount"),
        "currency": intent.get("currency"),
        "action": request.full_path,
    }
    return pages.html("authenticate.html", context, status=status)


def _onward(pages: Pages, intent: Object) -> Response:
    target = return_url(intent)
    if target is not None:
        return redirect(target, code=303)
    failed = intent["status"] in ("requires_payment_method", "canceled")
    context = {
        "title": "That did not work" if failed else "Authentication complete",
        "text": (
            "The bank could not confirm that it was you, or it declined the payment. You can close this page "
            "and try another card."
            if failed
            else "The bank has confirmed that it was you. You can close this page."
        ),
        "card": None,
    }
    return pages.html("authenticate.html", context)


RULES = [
    Rule("/3ds/<id>", methods=["GET"], endpoint=show),
    Rule("/3ds/<id>", methods=["POST"], endpoint=submit),
]
