"""Routing and rendering of pages."""

import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jinja2
from werkzeug.exceptions import Forbidden
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from sandbox.catalog.amounts import money_text
from sandbox.pages import authenticate, checkout, control, credit_note, invoice, portal
from sandbox.pages.answers import as_json
from sandbox.state import Sandbox

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

HERE = pathlib.Path(__file__).parent
# Pages carry no script and load nothing from elsewhere.
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action *; base-uri 'none'; "
    "frame-ancestors 'none'"
)


# Each lists its own addresses.
MODULES = (checkout, authenticate, invoice, credit_note, portal, control)


class Pages:
    """Answers what is not under /v1 or /v2. Raises werkzeug's HTTPException for what is not there."""

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        self.sandbox = sandbox
        self.recorder = recorder

    def answer(self, request: Request) -> Response:
        handler, args = ROUTES.bind("", url_scheme="http").match(request.path, method=request.method)
        if request.method == "POST":
            self._check_origin(request)
        self.sandbox.run_due()
        response: Response = handler(self, request, **args)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Referrer-Policy", "same-origin")
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _check_origin(self, request: Request) -> None:
        # The pages have no log-in: without this, any site open in the same browser could press their buttons.
        origin = request.headers.get("Origin")
        if origin is not None and origin not in (f"{request.scheme}://{request.host}", self.sandbox.base_url):
            raise Forbidden("This form was sent from another site.")

    def html(self, template: str, context: Mapping[str, Any], *, status: int = 200) -> Response:
        text = TEMPLATES.get_template(template).render(context)
        return Response(text, status=status, content_type="text/html; charset=utf-8")


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
