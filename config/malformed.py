"""What Django has no answer of its own to: an address with a NUL in the back office, a content type that is none.

Of the first Django puts each filter of a list, and the id of what is to be changed, into a query as it came, and
PostgreSQL has no room for it. All other pages and the API's views name the parameter that is wrong, or take another in
its place.
"""

from collections.abc import Callable, Iterable
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_header_parameters

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

BACK_OFFICE = "/admin/"


class NulMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(BACK_OFFICE) and has_nul(request):
            raise BadRequest("The address has a NUL character.")
        return self.get_response(request)


def has_nul(request: HttpRequest) -> bool:
    if "\0" in request.path_info:
        return True
    return any("\0" in part for name, values in request.GET.lists() for part in (name, *values))


def readable(application: Application) -> Application:
    """Return the application with a content type that cannot be read taken for none: it is read before any view."""

    def reading(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            parse_header_parameters(environ.get("CONTENT_TYPE", ""))
        except ValueError:
            environ["CONTENT_TYPE"] = ""
        return application(environ, start_response)

    return reading
