import os
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from apikeys import ahead
from apikeys.calls import Call, settle
from apikeys.headers import rate_headers


class MeteringMiddleware:
    """Meter every answer to a call that came with a key, once its status is known.

    It stands around everything that may change the status, an unhandled exception included.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = request_id = f"req_{os.urandom(16).hex()}"  # type: ignore[attr-defined]
        started = time.perf_counter()
        response = self.get_response(request)
        response["X-Request-Id"] = request_id
        ahead.clear(request)
        call: Call | None = getattr(request, "gate_call", None)
        if call is None:
            return response
        unspent = meter(call, request, response, seconds=time.perf_counter() - started)
        for name, value in rate_headers(call.decision, given_back=unspent).items():
            response[name] = value
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: object, kwargs: object
    ) -> None:
        ahead.ask(request, view)


def meter(call: Call, request: HttpRequest, response: HttpResponse, *, seconds: float) -> int:
    """Settle a call by the answer to it. Returns the units given back."""
    route = request.resolver_match.route if request.resolver_match else request.path
    return settle(
        call,
        status=response.status_code,
        endpoint=f"/{route}",
        method=request.method or "",
        response_ms=round(seconds * 1000),
    )
