"""Refusing what no page has a use for and PostgreSQL no room: an address with a NUL in it.

Forms refuse it in their fields, but not in an address: Django's back office puts each filter of a list into a query.
"""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse

from config.errors import API


class NulMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # The API's views name the parameter that is wrong.
        if not request.path_info.startswith(API) and has_nul(request):
            raise BadRequest("The address has a NUL character.")
        return self.get_response(request)


def has_nul(request: HttpRequest) -> bool:
    if "\0" in request.path_info:
        return True
    return any("\0" in part for name, values in request.GET.lists() for part in (name, *values))
