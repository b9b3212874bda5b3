"""Refusing who calls too often, by the table in `config/rates.py`, with django-ratelimit's counters.

They are windows of a fixed minute in Redis. While Redis is away nothing is counted and nobody refused: people
can still log in (see `config/cache.py`).
"""

from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse

from accounts.addresses import client_network
from accounts.limits import SECONDS, seconds_over
from config.errors import refuse_for
from config.rates import RATES, Rate

READING = {"GET", "HEAD", "OPTIONS"}


class RateLimitMiddleware:
    """Stands before the checks of forms and sessions: what they refuse was a try, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code == 429 and not response.has_header("Retry-After"):
            response["Retry-After"] = str(SECONDS)  # allauth's own refusals, which say nothing.
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        rate = RATES.get(match.view_name) if match else None
        if match is None or rate is None:
            return None
        waits = [seconds for seconds in count(request, rate, name=match.view_name) if seconds]
        return refuse_for(request, seconds=max(waits)) if waits else None


def count(request: HttpRequest, rate: Rate, *, name: str) -> Iterator[int]:
    """Count the request; yield for each limit that it goes beyond the seconds until there is room again, else 0."""
    caller = caller_of(request, rate)
    if caller is None:
        return
    limits = {name: rate.requests}
    if rate.sends is not None and request.method not in READING:
        limits[f"{name}, sending"] = rate.sends
    for group, limit in limits.items():
        yield seconds_over(request, group=group, caller=caller, limit=limit)


def caller_of(request: HttpRequest, rate: Rate) -> str | None:
    """Return by what the request is counted; None for somebody not signed in, whom a page for people turns away."""
    if rate.by == "address":
        return client_network(request)
    return f"user {request.user.pk}" if request.user.is_authenticated else None
