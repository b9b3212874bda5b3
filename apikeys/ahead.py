"""Asking the gate ahead: as soon as a request's view is known, while Django is still on its way to it.

The gate's answer takes a round trip, most of which is waiting. A view whose terms are the same for every request
is asked about from the middleware; its authentication finds the answer there, or asks as ever. What was asked and
never looked at, because something between the two answered the request, is given back.
"""

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest

from accounts.addresses import client_address
from apikeys import settlement
from apikeys.bearer import bearer_token
from apikeys.decision import Decision
from apikeys.gate import Asked, Begun, admit, begin, finish
from apikeys.problems import Problem
from apikeys.terms import Terms, is_unchanging

if TYPE_CHECKING:
    from rest_framework.views import APIView  # Which imports the gate's classes, by the settings.

# By the function that an address leads to, and the method: what its view asked of the gate before.
LEARNT: dict[tuple[Any, str], tuple[Terms, bool]] = {}


def learn(request: HttpRequest, view: "APIView", terms: Terms, *, limited: bool) -> None:
    """Remember what a view asks, where it will ask the same for every request of the method."""
    match = request.resolver_match
    if match is None or (match.func, request.method) in LEARNT:
        return
    first = next(iter(view.authentication_classes), None)
    if getattr(first, "asks_the_gate", False) and is_unchanging(view):
        LEARNT[match.func, str(request.method)] = terms, limited


def ask(request: HttpRequest, view: Any) -> None:
    """Ask about a request whose view, the function, was seen before."""
    header = request.META.get("HTTP_AUTHORIZATION")
    learnt = LEARNT.get((view, str(request.method))) if header else None
    if not header or learnt is None:
        return
    try:
        secret = bearer_token(header)
    except Problem:
        return  # The authentication says so.
    if secret:
        terms, limited = learnt
        request.gate_begun = begin(  # type: ignore[attr-defined]
            Asked(
                secret,
                terms.meter,
                terms.cost if limited else 0,
                terms.scopes,
                client_address(request),
                limited,
            )
        )


def decide(request: HttpRequest, asked: Asked) -> Decision:
    """Return the gate's decision, whether it was asked ahead or is asked now."""
    begun: Begun | None = getattr(request, "gate_begun", None)
    if begun is not None and begun.asked == asked:
        request.gate_begun = None  # type: ignore[attr-defined]
        return finish(begun)
    return admit(**asked._asdict())


def clear(request: HttpRequest) -> None:
    """Give back what was asked ahead and never looked at."""
    begun: Begun | None = getattr(request, "gate_begun", None)
    if begun is None:
        return
    request.gate_begun = None  # type: ignore[attr-defined]
    decision = finish(begun)
    if decision.admitted and decision.cost:
        settlement.settle(decision, units=0, event=None)
