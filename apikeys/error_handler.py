"""DRF's exception handler, apart from `problems` because it imports DRF's views, which import our authentication."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import set_rollback

from accounts.addresses import client_network
from accounts.limits import KEY_REFUSALS, seconds_over
from apikeys.problems import CHALLENGE, CONTENT_TYPE, Problem, body, too_many_requests
from apikeys.redaction import redact_all
from billing import errors
from billing.api.problems import KINDS

SERVICE_TOKENS = "invalid_service_token"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: every error that DRF or billing knows, as a problem."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, errors.BillingError):
        error = billing_problem(error)
    if not isinstance(error, exceptions.APIException):
        return None
    set_rollback()
    problem = error if isinstance(error, Problem) else plain_problem(error)
    if problem.status_code == 401:
        problem = count_refusal(problem, context["request"])
    content = body(
        status=problem.status_code,
        code=problem.code,
        title=problem.title,
        detail=str(problem.detail),
        request_id=getattr(context["request"], "request_id", ""),
        members=problem.members,
    )
    headers = dict(problem.headers)
    if problem.status_code == 401:
        headers = {"WWW-Authenticate": CHALLENGE, **headers}
    return Response(content, status=problem.status_code, headers=headers, content_type=CONTENT_TYPE)


def count_refusal(problem: Problem, request: Request) -> Problem:
    """Count a call that nobody's key let in, by its address; return the problem, or that there were too many.

    Counted once it is refused: a key that works is never asked about. Service tokens have a limit of their own, and
    whoever came with one that works is the operator's proxy: its address is not that of the client whose key is bad.
    """
    if problem.code == SERVICE_TOKENS or request.auth is not None:
        return problem
    seconds = seconds_over(
        request._request, group="api keys", caller=client_network(request._request), limit=KEY_REFUSALS
    )
    return too_many_requests(seconds) if seconds else problem


def billing_problem(error: errors.BillingError) -> Problem:
    """Return what went wrong with plan or money as a problem."""
    kind = next(KINDS[base] for base in type(error).__mro__ if base in KINDS)
    code, members = kind.code, {}
    match error:
        case errors.ChangeRefused():
            code = error.code
        case errors.PaymentDeclined():
            members = {"decline_code": error.decline_code}
        case errors.StripeRejected():
            members = {"provider_code": error.code, "provider_param": error.param}
    return Problem(
        status=kind.status,
        code=code,
        title=kind.title,
        detail=str(error),
        members=members,
        retry_after=kind.retry_after,
    )


def plain_problem(error: exceptions.APIException) -> Problem:
    """Return one of DRF's own errors as a problem."""
    code = str(getattr(error, "default_code", "error"))
    detail, members = str(error.detail), {}
    if isinstance(error, exceptions.ValidationError):
        # They repeat what was sent.
        members, detail = (
            {"errors": redact_all(error.detail)},
            "Some of what was sent is not valid; see `errors`.",
        )
    return Problem(
        status=error.status_code,
        code=code,
        title=code.replace("_", " ").capitalize(),
        detail=detail,
        members=members,
        retry_after=getattr(error, "wait", None),
    )
