"""The WSGI application: Stripe's API, the hosted pages and the control page on one port."""

import logging
import time
import urllib.parse
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import HTTPException, MisdirectedRequest
from werkzeug.wrappers import Request, Response

from sandbox.api import Api, new_request_id
from sandbox.faults import ConnectionLost
from sandbox.pages import Pages
from sandbox.resources.webhook_endpoints import is_loopback
from sandbox.state import RequestLine, Sandbox

if TYPE_CHECKING:
    from sandbox.contract.recorder import Recorder

log = logging.getLogger("sandbox.requests")

# Stripe takes far less; this only bounds what one request can make the sandbox hold.
MAX_BODY = 2 * 1024 * 1024
MAX_FORM_PARTS = 5000
# Not worth a line on the control page.
QUIET = ("/healthz", "/static/")


class SandboxRequest(Request):
    max_content_length = MAX_BODY
    max_form_memory_size = MAX_BODY
    max_form_parts = MAX_FORM_PARTS


class Application:
    """A WSGI callable over one sandbox."""

    def __init__(self, sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> None:
        self.sandbox = sandbox
        self.api = Api(sandbox, recorder=recorder)
        self.pages = Pages(sandbox, recorder=recorder)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.respond(SandboxRequest(environ))(environ, start_response)

    def respond(self, request: Request) -> Response:
        """Return the response. Raises ConnectionLost where a fault takes it away."""
        started = time.perf_counter()
        request_id = new_request_id(self.sandbox)
        try:
            self._check_host(request)
            if request.path.startswith(("/v1/", "/v2/")):
                response = self.api.answer(request, request_id=request_id)
            else:
                response = self.pages.answer(request)
        except HTTPException as error:
            response = self.pages.refuse(request, error)
        except ConnectionLost:
            self._note(request, 0, request_id, started)
            raise
        self._note(request, response.status_code, request_id, started)
        return response

    def _check_host(self, request: Request) -> None:
        # Any site can point a name of its own at 127.0.0.1 and have its visitors' browsers talk to this
        # server as to itself. It cannot do so under these names.
        host = urllib.parse.urlsplit(f"//{request.host}").hostname or ""
        own = urllib.parse.urlsplit(self.sandbox.base_url).hostname
        if not (host == own or is_loopback(host) or host.endswith(".stripe.com")):
            raise MisdirectedRequest("The sandbox is not known under this name. Use 127.0.0.1 or localhost.")

    def _note(self, request: Request, status: int, request_id: str, started: float) -> None:
        """Keep a line on a request; its status is 0 where no answer went out."""
        elapsed = (time.perf_counter() - started) * 1000
        log.info("%s %s %s %s %.1fms", request.method, request.path, status, request_id, elapsed)
        if request.path.startswith(QUIET):
            return
        self.sandbox.requests.appendleft(
            RequestLine(request.method, request.path, status, request_id, elapsed, self.sandbox.now())
        )


def create_app(sandbox: Sandbox, *, recorder: "Recorder | None" = None) -> Application:
    """Return the application. A recorder checks each exchange against Stripe's published document."""
    if recorder is not None and recorder.check_event not in sandbox.observers:
        sandbox.observers.append(recorder.check_event)
    return Application(sandbox, recorder=recorder)
