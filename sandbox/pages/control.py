"""The control page at `/` and its JSON twin under `/sandbox/`."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from werkzeug.routing import Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from sandbox import clockwork, keys
from sandbox.errors import ApiError, missing_resource
from sandbox.events import listening
from sandbox.invoices.collecting import retry_policy, set_retry_policy
from sandbox.meters.metering_settings import configure, settings
from sandbox.meters.rejecting import rejected
from sandbox.pages.answers import as_json, wants_page
from sandbox.pages.control_input import CLOCK_FIELDS, FAULT, KEY, METERING, RESEND, RETRIES, ROLL, read
from sandbox.pages.control_view import context
from sandbox.payments import methods
from sandbox.resources import ENDPOINTS
from sandbox.routing import Call
from sandbox.subscriptions.ending import end_subscription
from sandbox.subscriptions.subscribing import ENDED
from sandbox.timeline import CLOCK, clock_of

if TYPE_CHECKING:
    from sandbox.pages.site import Pages

HERE = pathlib.Path(__file__).parent
# How long a form waits for the clock before the page shows it on its way.
PATIENCE = 5.0
STEPS: dict[str, Callable[[int], int]] = {
    "hour": lambda now: now + 3600,
    "day": lambda now: now + 86400,
    "month": clockwork.a_month_on,
}
ADVANCE = "/v1/test_helpers/test_clocks/<id>/advance"

Action = Callable[..., Any]


def moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def date(at: float) -> str:
    instant = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return f"{instant.day} {instant:%B %Y}"


def show(pages: Pages, request: Request, *, problem: str | None = None, status: int = 200) -> Response:
    with pages.sandbox.lock:
        shown = context(pages)
    return pages.html("control.html", {**shown, "problem": problem}, status=status)


def _style(pages: Pages, request: Request) -> Response:
    css = (HERE / "static" / "control.css").read_text()
    return Response(css, content_type="text/css; charset=utf-8", headers={"Cache-Control": "max-age=300"})


def action(section: str) -> Callable[[Action], Action]:
    """Make a handler of a function that returns JSON-like data.

    A browser is sent back to a section of the page, or shown the page with what was wrong.
    """

    def wrap(work: Action) -> Action:
        def handle(pages: Pages, request: Request, **args: str) -> Response:
            try:
                data = work(pages, request, **args)
            except ApiError as error:
                if wants_page(request):
                    return show(pages, request, problem=str(error), status=error.status)
                return as_json(error.body, status=error.status)
            return redirect(f"/#{section}", code=303) if wants_page(request) else as_json(data)

        return handle

    return wrap


def deliveries(pages: Pages, request: Request) -> Response:
    return as_json(pages.sandbox.webhooks.log(limit=200))


def contract(pages: Pages, request: Request) -> Response:
    """Answer with the contract problems so far; `checked` is false where nothing is being checked.

    `mishaps` are what was due and failed.
    """
    checked = pages.recorder is not None
    problems = [str(each) for each in pages.recorder.problems] if pages.recorder is not None else []
    mishaps = list(pages.sandbox.mishaps)
    return as_json({"checked": checked, "problems": problems, "mishaps": mishaps})


def _clock(pages: Pages) -> dict[str, Any]:
    state = pages.sandbox
    with state.lock:
        return {
            "now": state.now(),
            **state.clock.as_dict(),
            "next": clockwork.upcoming(state),
            "test_clocks": [
                {name: each.get(name) for name in ("id", "name", "frozen_time", "status")}
                for each in state.newest(CLOCK)
            ],
        }


def clock(pages: Pages, request: Request) -> Response:
    return as_json(_clock(pages))


@action("clock")
def move_clock(pages: Pages, request: Request) -> dict[str, Any]:
    """Move the clock as one of the fields asks, and return it; a program waits until it has arrived."""
    asked = read(request, CLOCK_FIELDS)
    if len(asked) != 1:
        raise ApiError(f"Give exactly one of {', '.join(sorted(CLOCK_FIELDS))}.")
    ((name, value),) = asked.items()
    state, wait = pages.sandbox, PATIENCE if wants_page(request) else None
    now = state.clock.now()
    if name == "resume":
        clockwork.resume(state)
    elif name == "freeze":
        clockwork.freeze(state)
    elif name == "start_at":
        clockwork.start_at(state, value)
    elif name == "frozen_at":
        clockwork.freeze(state, value, wait=wait)
    else:
        clockwork.move_to(state, _target(pages, name, value, now=now), wait=wait)
    return _clock(pages)


def _target(pages: Pages, name: str, value: Any, *, now: int) -> int:
    if name == "advance":
        return int(now + value)
    if name == "to":
        return int(value)
    if value in STEPS:
        return STEPS[value](now)
    following = clockwork.upcoming(pages.sandbox, limit=1)
    if not following:
        raise ApiError("Nothing is due: there is no next thing to advance to.", param="step")
    return max(int(following[0]["at"]), now)


@action("clock")
def move_test_clock(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    """Advance a test clock, as its endpoint does."""
    asked = read(request, {each: CLOCK_FIELDS[each] for each in ("advance", "step", "to")})
    if len(asked) != 1:
        raise ApiError("Give exactly one of advance, step, to.")
    ((name, value),) = asked.items()
    state = pages.sandbox
    with state.lock:
        row = state.get(CLOCK, id, noun="test_clock")
        if (name, value) == ("step", "next"):
            following = clockwork.upcoming(state, limit=1, clock=id)
            target = following[0]["at"] if following else row["frozen_time"]
        else:
            target = _target(pages, name, value, now=row["frozen_time"])
        handle = next(each.handle for each in ENDPOINTS if (each.method, each.path) == ("POST", ADVANCE))
        with state.change(), state.on_clock(id):
            result = handle(Call(state=state, params={"frozen_time": target}, args={"id": id}, path=ADVANCE))
        state.run_due()
        return state.render(result) if isinstance(result, dict) else {}


def rejected_meter_events(pages: Pages, request: Request) -> Response:
    with pages.sandbox.lock:
        return as_json(rejected(pages.sandbox))


def metering(pages: Pages, request: Request) -> Response:
    return as_json(settings(pages.sandbox))


@action("settings")
def set_metering(pages: Pages, request: Request) -> dict[str, int]:
    return configure(pages.sandbox, **read(request, METERING))


def retries(pages: Pages, request: Request) -> Response:
    with pages.sandbox.lock:
        return as_json(retry_policy(pages.sandbox))


@action("settings")
def set_retries(pages: Pages, request: Request) -> dict[str, Any]:
    """Change what is given of {retry_days, then} and return both."""
    given = read(request, RETRIES)
    with pages.sandbox.change() as state:
        try:
            set_retry_policy(state, **{**retry_policy(state), **given})
        except ValueError as error:
            raise ApiError(f"Invalid settings: {error} are wanted.") from None
        return retry_policy(state)


def known_keys(pages: Pages, request: Request) -> Response:
    with pages.sandbox.lock:
        return as_json(keys.known(pages.sandbox))


@action("settings")
def change_key(pages: Pages, request: Request) -> list[dict[str, Any]]:
    """Let a key expire in `expires_in` seconds, or do no more than its `permissions`."""
    given = read(request, KEY)
    with pages.sandbox.change() as state:
        if "expires_in" in given:
            keys.expire(state, given["key"], after=given["expires_in"])
        if "permissions" in given:
            keys.restrict(state, given["key"], to=given["permissions"])
        return keys.known(state)


@action("webhooks")
def roll_secret(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    given = read(request, ROLL)
    secret = listening.roll_secret(pages.sandbox, id, keep_old=given.get("keep_old", 0))
    return {"id": id, "secret": secret}


def faults(pages: Pages, request: Request) -> Response:
    return as_json([each.as_dict() for each in pages.sandbox.faults.all()])


@action("faults")
def add_fault(pages: Pages, request: Request) -> dict[str, Any]:
    return pages.sandbox.faults.add(**read(request, FAULT)).as_dict()


@action("faults")
def clear_faults(pages: Pages, request: Request) -> dict[str, Any]:
    pages.sandbox.faults.clear()
    return {"cleared": True}


@action("faults")
def clear_fault(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    if not pages.sandbox.faults.remove(id):
        raise missing_resource("fault", id)
    return {"id": id, "cleared": True}


@action("webhooks")
def resend(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    queued = pages.sandbox.webhooks.resend(id, **read(request, RESEND))
    return {"queued": [each.id for each in queued]}


@action("subscriptions")
def cancel(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    with pages.sandbox.change() as state:
        subscription = state.get("subscription", id)
        with state.on_clock(clock_of(state, subscription)):
            if subscription["status"] not in ENDED:
                end_subscription(state, subscription, reason="cancellation_requested")
        return {"id": id, "status": subscription["status"]}


@action("cards")
def renew_card(pages: Pages, request: Request, *, id: str) -> dict[str, Any]:
    with pages.sandbox.change() as state:
        method = state.get("payment_method", id, noun="PaymentMethod")
        if method["customer"] is None:
            raise ApiError("Only a card that a customer has saved is renewed by the network.")
        return {"id": id, "exp_year": methods.renew(state, method)["card"]["exp_year"]}


RULES = [
    Rule("/", methods=["GET"], endpoint=show),
    Rule("/static/control.css", methods=["GET"], endpoint=_style),
    Rule("/sandbox/deliveries", methods=["GET"], endpoint=deliveries),
    Rule("/sandbox/contract", methods=["GET"], endpoint=contract),
    Rule("/sandbox/clock", methods=["GET"], endpoint=clock),
    Rule("/sandbox/clock", methods=["POST"], endpoint=move_clock),
    Rule("/sandbox/test_clocks/<id>", methods=["POST"], endpoint=move_test_clock),
    Rule("/sandbox/settings", methods=["GET"], endpoint=retries),
    Rule("/sandbox/settings", methods=["POST"], endpoint=set_retries),
    Rule("/sandbox/metering", methods=["GET"], endpoint=metering),
    Rule("/sandbox/metering", methods=["POST"], endpoint=set_metering),
    Rule("/sandbox/meter_events/rejected", methods=["GET"], endpoint=rejected_meter_events),
    Rule("/sandbox/keys", methods=["GET"], endpoint=known_keys),
    Rule("/sandbox/keys", methods=["POST"], endpoint=change_key),
    Rule("/sandbox/webhook_endpoints/<id>/roll", methods=["POST"], endpoint=roll_secret),
    Rule("/sandbox/faults", methods=["GET"], endpoint=faults),
    Rule("/sandbox/faults", methods=["POST"], endpoint=add_fault),
    Rule("/sandbox/faults", methods=["DELETE"], endpoint=clear_faults),
    Rule("/sandbox/faults/clear", methods=["POST"], endpoint=clear_faults),
    Rule("/sandbox/faults/<id>", methods=["DELETE"], endpoint=clear_fault),
    Rule("/sandbox/faults/<id>/clear", methods=["POST"], endpoint=clear_fault),
    Rule("/sandbox/events/<id>/resend", methods=["POST"], endpoint=resend),
    Rule("/sandbox/subscriptions/<id>/cancel", methods=["POST"], endpoint=cancel),
    Rule("/sandbox/payment_methods/<id>/renew", methods=["POST"], endpoint=renew_card),
]
