"""Answers to what no view could answer: a page for people, a problem for programs."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import defaults

from apikeys import problems

API = "/api/"


def too_many_requests(request: HttpRequest, exception: Exception) -> HttpResponse:
    """django-ratelimit's refusal, with the status that RFC 6585 has for it instead of 403."""
    if request.path.startswith(API):
        response = problems.response(
            request,
            status=429,
            code="too_many_requests",
            title="Too many requests",
            detail="Too many requests came from your address. Try again in a minute.",
        )
    else:
        response = render(request, "429.html", status=429)
    response["Retry-After"] = "60"  # Every rate is by the minute.
    return response


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
