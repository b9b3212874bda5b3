"""DRF's exception handler, apart from `problems` because it imports DRF's views, which import our authentication."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from apikeys.problems import CHALLENGE, CONTENT_TYPE, Problem, body


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: every error that DRF knows, as a problem."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    request_id = getattr(context["request"], "request_id", "")
    if isinstance(error, Problem):
        content = body(
            status=error.status_code,
            code=error.code,
            title=error.title,
            detail=str(error.detail),
            request_id=request_id,
            members=error.members,
        )
        headers = error.headers
    else:
        code = str(getattr(error, "default_code", "error"))
        title = code.replace("_", " ").capitalize()
        members: dict[str, object] = {}
        detail = str(error.detail)
        if isinstance(error, exceptions.ValidationError):
            members, detail = {"errors": error.detail}, "Some of what was sent is not valid; see `errors`."
        content = body(
            status=error.status_code,
            code=code,
            title=title,
            detail=detail,
            request_id=request_id,
            members=members,
        )
        headers = {}
    if error.status_code == 401:
        headers = {"WWW-Authenticate": CHALLENGE, **headers}
    return Response(content, status=error.status_code, headers=headers, content_type=CONTENT_TYPE)
