"""Answers to what no view could answer: a page for people, a problem for programs."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views import defaults

from apikeys import problems

API = "/api/"


def refuse_for(request: HttpRequest, *, seconds: int) -> HttpResponse:
    """Answer a call that came too often, with the status that RFC 6585 has for it: come back in `seconds`."""
    if request.path.startswith(API):
        problem = problems.too_many_requests(seconds)
        content = problems.body(
            status=problem.status_code,
            code=problem.code,
            title=problem.title,
            detail=str(problem.detail),
            request_id=getattr(request, "request_id", ""),
            members=problem.members,
        )
        response: HttpResponse = JsonResponse(content, status=429, content_type=problems.CONTENT_TYPE)
    else:
        response = render(request, "429.html", status=429)
    response["Retry-After"] = str(seconds)
    return response


def too_many_requests(request: HttpRequest, exception: Exception) -> HttpResponse:
    """django-ratelimit's refusal by a decorator, whose rates are by the minute, instead of its 403."""
    return refuse_for(request, seconds=60)


def server_error(request: HttpRequest) -> HttpResponse:
    if request.path.startswith(API):
        return problems.response(
            request,
            status=500,
            code="server_error",
            title="Internal error",
            detail="Something went wrong on our side. The call was not charged.",
        )
    return defaults.server_error(request)
