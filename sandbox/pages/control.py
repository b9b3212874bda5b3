"""The control page at `/` and its JSON twin under `/sandbox/`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox.differences import DIFFERENCES
from sandbox.errors import ApiError
from sandbox.pages.answers import as_json
from sandbox.rejecting import rejected
from sandbox.state import Sandbox
from sandbox.subscribing import ENDED, end_subscription
from sandbox.wire import API_VERSION

if TYPE_CHECKING:
    from sandbox.pages.site import Pages


def moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def date(at: float) -> str:
    instant = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return f"{instant.day} {instant:%B %Y}"


def show(pages: Pages, request: Request) -> Response:
    state = pages.sandbox
    with state.lock:
        context = {
            "account": state.account_id,
            "version": API_VERSION,
            "now": state.now(),
            "requests": list(state.requests)[:30],
            "events": state.newest("event")[:30],
            "deliveries": state.webhooks.log(limit=30),
            "endpoints": state.newest("webhook_endpoint"),
            "subscriptions": [_subscription(state, each) for each in state.newest("subscription")[:30]],
            "meters": [_meter(state, each) for each in state.newest("billing.meter")],
            "rejected": rejected(state)[:20],
            "sessions": [each for each in state.newest("checkout.session") if each["status"] == "open"][:10],
            "problems": pages.recorder.problems if pages.recorder else None,
            "differences": DIFFERENCES,
        }
        return pages.html("control.html", context)


def _subscription(state: Sandbox, subscription: dict[str, Any]) -> dict[str, Any]:
    customer = state.find("customer", subscription["customer"]) or {}
    return {
        "id": subscription["id"],
        "status": subscription["status"],
        "live": subscription["status"] not in ENDED,
        "customer": customer.get("email") or subscription["customer"],
    }


def _meter(state: Sandbox, meter: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": meter["id"],
        "name": meter["display_name"],
        "event_name": meter["event_name"],
        "status": meter["status"],
        "events": 0,
        "total": 0,
    }


def deliveries(pages: Pages, request: Request) -> Response:
    return as_json(pages.sandbox.webhooks.log(limit=200))


def contract(pages: Pages, request: Request) -> Response:
    """Answer with the contract problems so far; `checked` is false where nothing is being checked."""
    if pages.recorder is None:
        return as_json({"checked": False, "problems": []})
    return as_json({"checked": True, "problems": [str(each) for each in pages.recorder.problems]})


def clock(pages: Pages, request: Request) -> Response:
    state = pages.sandbox
    return as_json({"now": state.now(), **state.clock.as_dict()})


def rejected_meter_events(pages: Pages, request: Request) -> Response:
    with pages.sandbox.lock:
        return as_json(rejected(pages.sandbox))


def resend(pages: Pages, request: Request, *, id: str) -> Response:
    try:
        queued = pages.sandbox.webhooks.resend(id)
    except ApiError as error:
        return as_json(error.body, status=error.status)
    return _done(request, {"queued": [each.id for each in queued]})


def cancel(pages: Pages, request: Request, *, id: str) -> Response:
    try:
        with pages.sandbox.change() as state:
            subscription = state.get("subscription", id)
            if subscription["status"] not in ENDED:
                end_subscription(state, subscription, reason="cancellation_requested")
            status = subscription["status"]
    except ApiError as error:
        return as_json(error.body, status=error.status)
    return _done(request, {"id": id, "status": status})


def _done(request: Request, data: dict[str, Any]) -> Response:
    """Send a browser back to the page, a program its answer."""
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect("/", code=303)
    return as_json(data)


RULES = [
    Rule("/", methods=["GET"], endpoint=show),
    Rule("/sandbox/deliveries", methods=["GET"], endpoint=deliveries),
    Rule("/sandbox/contract", methods=["GET"], endpoint=contract),
    Rule("/sandbox/clock", methods=["GET"], endpoint=clock),
    Rule("/sandbox/meter_events/rejected", methods=["GET"], endpoint=rejected_meter_events),
    Rule("/sandbox/events/<id>/resend", methods=["POST"], endpoint=resend),
    Rule("/sandbox/subscriptions/<id>/cancel", methods=["POST"], endpoint=cancel),
]
