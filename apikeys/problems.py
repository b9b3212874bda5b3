"""Errors of the API as RFC 9457 problem details, with a stable `code` and the request's id."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions

CONTENT_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="Tollgate"'
INVALID_TOKEN = f'{CHALLENGE}, error="invalid_token"'  # RFC 6750, 3.1.


class Problem(exceptions.APIException):
    """An error with its own `code`, title and extra members. `retry_after` is in seconds."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        title: str,
        detail: str,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.code = code
        self.title = title
        self.members = dict(members or {})
        self.headers = dict(headers or {})
        if retry_after is not None:
            # Rounded up: a client that obeys it is never refused for coming early.
            seconds = max(math.ceil(retry_after), 1)
            self.headers["Retry-After"] = str(seconds)
            self.members["retry_after"] = seconds


def too_many_requests(seconds: int, *, of: str = "requests") -> Problem:
    """Return the refusal of somebody who is known by their address alone: they may come back in `seconds`."""
    return Problem(
        status=429,
        code="too_many_requests",
        title="Too many requests",
        detail=f"Too many {of} came from your address. Try again in {seconds} seconds.",
        retry_after=seconds,
    )


def body(
    *,
    status: int,
    code: str,
    title: str,
    detail: str,
    request_id: str,
    members: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **(members or {}),
    }


def insufficient_scope(scopes: Sequence[str]) -> str:
    """Return the WWW-Authenticate of a 403 for want of scopes (RFC 6750, 3.1)."""
    return f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(scopes)}"'


def response(request: HttpRequest, *, status: int, code: str, title: str, detail: str) -> HttpResponse:
    """Return a problem from outside DRF."""
    request_id = getattr(request, "request_id", "")
    content = body(status=status, code=code, title=title, detail=detail, request_id=request_id)
    return JsonResponse(content, status=status, content_type=CONTENT_TYPE)
