import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from apikeys import settlement
from apikeys.decision import Decision
from apikeys.headers import rate_headers
from usage.events import Event, uuid7


class MeteringMiddleware:
    """Meter every answer to an admitted call, once its status is known.

    It stands around everything that may change the status, an unhandled exception included.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = f"req_{uuid.uuid4().hex}"  # type: ignore[attr-defined]
        started = time.perf_counter()
        response = self.get_response(request)
        response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
        decision: Decision | None = getattr(request, "gate_decision", None)
        if decision is None:
            return response
        for name, value in rate_headers(decision).items():
            response[name] = value
        if decision.admitted and decision.cost:
            settle(decision, request, response, seconds=time.perf_counter() - started)
        return response


def settle(decision: Decision, request: HttpRequest, response: HttpResponse, *, seconds: float) -> None:
    """Put a served call into the ledger, or give its units back where the server failed it."""
    if response.status_code >= 500:
        settlement.settle(decision, units=0, event=None)
        return
    event = event_of(decision, request, response, seconds=seconds) if decision.is_billable else None
    settlement.settle(decision, units=decision.cost, event=event)


def event_of(decision: Decision, request: HttpRequest, response: HttpResponse, *, seconds: float) -> Event:
    # The period comes from another clock than the call: an event never lies before the period it is charged to.
    occurred_at = max(decision.at, decision.period_start)
    route = request.resolver_match.route if request.resolver_match else request.path
    return Event(
        id=uuid7(occurred_at),
        occurred_at=occurred_at,
        organization_id=decision.organization_id,
        api_key_id=decision.api_key_id,
        meter=decision.meter,
        units=decision.cost,
        period_start=decision.period_start,
        endpoint=f"/{route}"[:200],
        method=(request.method or "")[:10],
        status=response.status_code,
        response_ms=round(seconds * 1000),
    )
