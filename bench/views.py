"""One view, three times: bare, behind Tollgate, and behind the peers as their documentation says."""

import time
from typing import Any

from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from bench.peers import APPS

ANSWER = {"forecast": "sunny", "degrees": 21}


class Answering(APIView):
    schema = None

    def get(self, request: Request) -> Response:
        return Response(ANSWER)


class Bare(Answering):
    """Anybody's, and nothing counted."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = [AllowAny]
    throttle_classes: list[Any] = []


class Gated(Answering):
    """The project's defaults: key, rates, quota and ledger. There is nothing to write in the view."""


def plain(request: HttpRequest) -> HttpResponse:
    """Return what a Django view of the operator's own would: the least that HTTP and Django cost."""
    return HttpResponse(b"ok", content_type="text/plain")


def slow(request: HttpRequest) -> HttpResponse:
    """Take two seconds, to be in flight when the server is told to stop."""
    time.sleep(2)
    return HttpResponse(b"slow but served", content_type="text/plain")


HAS_PEERS = all(map(apps.is_installed, APPS))
if HAS_PEERS:
    from rest_framework_api_key.permissions import HasAPIKey
    from rest_framework_tracking.mixins import LoggingMixin

    class Nobody(BaseAuthentication):
        """DRF's own default user. The project sets UNAUTHENTICATED_USER to None, which the log cannot take."""

        def authenticate(self, request: Request) -> tuple[AnonymousUser, None]:
            return AnonymousUser(), None

    class Throttle(UserRateThrottle):
        """DRF's throttle at the rate of the plan that the gated view's callers have; per address, as it is
        where there is no user."""

        rate = "500/min"
        cache = caches["throttles"]

    class Peers(LoggingMixin, Answering):
        authentication_classes: list[Any] = [Nobody]
        permission_classes: list[Any] = [HasAPIKey]
        throttle_classes: list[Any] = [Throttle]
