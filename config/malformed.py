"""Refusing what the back office has no use for and PostgreSQL no room: an address with a NUL in it.

Django puts each filter of a list, and the id of what is to be changed, into a query as it came. All other pages and
the API's views name the parameter that is wrong, or take another in its place.
"""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

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
