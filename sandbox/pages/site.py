"""Routing and rendering of pages."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jinja2
from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from sandbox.catalog.amounts import money_text
from sandbox.errors import ApiError
from sandbox.pages import authenticate, checkout, control, credit_note, invoice, portal
from sandbox.pages.answers import as_json, wants_page
from sandbox.state import Sandbox

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

HERE = pathlib.Path(__file__).parent
# Pages carry no script and load nothing from elsewhere.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action *; base-uri 'none'; "
    "frame-ancestors 'none'"
)
# What the library's own words for each status would not tell a visitor, as title and text.
REFUSALS = {
    403: ("That is not allowed", "The sandbox does not take this form from here."),
    404: ("Page not found", "There is nothing at this address. Check the link, or ask for a new one."),
    405: ("That did not work", "This address is not used in this way. Go back and try again."),
    413: ("That was too much", "What was sent is larger than the sandbox takes."),
    421: ("Wrong address", ""),
}

# Each lists its own addresses.
MODULES = (checkout, authenticate, invoice, credit_note, portal, control)


class Pages:
    """Answers what is not under /v1 or /v2. Raises werkzeug's HTTPException for what is not there."""

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        self.sandbox = sandbox
        self.recorder = recorder

    def answer(self, request: Request) -> Response:
        handler, args = ROUTES.bind("", url_scheme="http").match(request.path, method=request.method)
        if request.method != "GET":
            self._check_origin(request)
        # Whether the server lives must be told at once, also while a year goes by.
        if handler is not _health:
            self.sandbox.run_due()
        response: Response = handler(self, request, **args)
        return _guarded(response)

    def refuse(self, request: Request, error: HTTPException) -> Response:
        """Answer with what is wrong: a page for a browser, Stripe's error object for a program."""
        status = error.code or 500
        title, text = REFUSALS.get(status, ("That did not work", ""))
        if error.description not in (None, type(error).description):
            text = str(error.description)
        if request.path.startswith(("/v1/", "/v2/", "/sandbox/")) and not wants_page(request):
            refusal = ApiError(text, status=status)
            return as_json(refusal.body, status=status)
        context = {"title": title, "text": text, "back": None}
        response = self.html("closed.html", context, status=status)
        allowed = [(name, value) for name, value in error.get_headers() if name == "Allow"]
        response.headers.extend(allowed)
        return _guarded(response)

    def _check_origin(self, request: Request) -> None:
        # The pages have no log-in: without this, any site open in the same browser could press their buttons.
        origin = request.headers.get("Origin")
        if origin is not None and origin not in (f"{request.scheme}://{request.host}", self.sandbox.base_url):
            raise Forbidden("This form was sent from another site.")

    def html(self, template: str, context: Mapping[str, Any], *, status: int = 200) -> Response:
        text = TEMPLATES.get_template(template).render(context)
        return Response(text, status=status, content_type="text/html; charset=utf-8")


def _guarded(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _health(pages: Pages, request: Request) -> Response:
    return as_json({"status": "ok"})


def _style(pages: Pages, request: Request) -> Response:
    css = (HERE / "static" / "sandbox.css").read_text()
    return Response(css, content_type="text/css; charset=utf-8", headers={"Cache-Control": "max-age=300"})


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = money_text
    environment.filters["moment"] = control.moment
    environment.filters["date"] = control.date
    return environment


# Both are made once: an application for each test would otherwise cost more than most tests.
TEMPLATES = _environment()
ROUTES = Map(
    [
        Rule("/healthz", methods=["GET"], endpoint=_health),
        Rule("/static/sandbox.css", methods=["GET"], endpoint=_style),
        *(rule.empty() for module in MODULES for rule in module.RULES),
    ],
    strict_slashes=False,
)
