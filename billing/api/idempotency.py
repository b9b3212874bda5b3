"""Idempotency-Key: a write that is sent again, because its answer was lost, is done once."""

import hashlib
import json
import re
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing.api.base import ManagementView
from billing.errors import AlreadySubscribed, BillingError, PaymentDeclined, StripeUnavailable
from billing.models import IdempotencyKey

HEADER = "Idempotency-Key"
# Visible ASCII, as Stripe has it: no spaces, which proxies may fold.
KEY = re.compile(r"[\x21-\x7e]{1,255}")
REPLAYED = {"Idempotency-Replayed": "true"}

PARAMETER = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="A name of your own for this request, such as a UUID: sent again with it within 24 hours, the "
    "request is done once and gets the same answer. 1 to 255 visible ASCII characters.",
)

V = TypeVar("V", bound=ManagementView)
P = ParamSpec("P")
Handler = Callable[Concatenate[V, Request, P], Response]


def idempotent(
    *, secrets: Collection[str] = (), shown_once: bool = False
) -> Callable[[Handler[V, P]], Handler[V, P]]:
    """Answer a write that was answered before with that answer, where the client named it by Idempotency-Key.

    What was refused has changed nothing: it is not kept, and the same request may be tried again. A declined
    payment is kept, or a client that retries by itself would have the card tried again and again.
    `secrets` are fields of the answer that are not stored. To have them again the flow is run again, which is
    safe because it looks at the state first; they are null once there is nothing left to do. Secrets that are
    `shown_once` are null from the second answer on.
    """

    def decorate(handler: Handler[V, P]) -> Handler[V, P]:
        @wraps(handler)
        def wrapped(view: V, request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Response:
            key = find_key(request)
            if key is None:
                return handler(view, request, *args, **kwargs)
            row = IdempotencyKey.objects.claim(
                organization=view.organization, key=key, fingerprint=fingerprint_of(request)
            )
            if row.status is None or row.body is None:
                return answer_first(row, lambda: handler(view, request, *args, **kwargs), secrets=secrets)
            if secrets and not shown_once:
                try:
                    again = handler(view, request, *args, **kwargs)
                except AlreadySubscribed:
                    body = {**row.body, **dict.fromkeys(secrets)}
                    return Response(body, status=row.status, headers=REPLAYED)
                for name, value in REPLAYED.items():
                    again[name] = value
                return again
            if row.status == 402:
                raise PaymentDeclined(row.body["detail"], decline_code=row.body["decline_code"])
            body = {**row.body, **dict.fromkeys(secrets)}
            return Response(body, status=row.status, headers=REPLAYED)

        return wrapped

    return decorate


def answer_first(
    row: IdempotencyKey, handle: Callable[[], Response], *, secrets: Collection[str]
) -> Response:
    try:
        response = handle()
    except PaymentDeclined as error:
        row.answer(status=402, body={"detail": str(error), "decline_code": error.decline_code})
        raise
    except StripeUnavailable:
        # Perhaps it was done: only this request may find out under this key.
        row.release()
        raise
    except (BillingError, exceptions.APIException):
        row.delete()
        raise
    except Exception:
        row.release()
        raise
    kept = {name: value for name, value in response.data.items() if name not in secrets}
    row.answer(status=response.status_code, body=json.loads(json.dumps(kept, default=str)))
    return response


def find_key(request: Request) -> str | None:
    """Return the client's key, None where it sent none. Raises ValidationError for a malformed one."""
    key: str | None = request.headers.get(HEADER)
    if key is not None and not KEY.fullmatch(key):
        raise serializers.ValidationError(
            {HEADER: ["Use 1 to 255 visible ASCII characters, without spaces."]}
        )
    return key


def fingerprint_of(request: Request) -> str:
    """Return what tells this request from others: a body in another order of fields is the same."""
    what: Any = [request.method, request.get_full_path(), request.data]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def attempt_of(request: Request, organization: Organization) -> str:
    """Return the name of a try at Checkout: the same for the same key."""
    key = find_key(request)
    return str(uuid5(NAMESPACE_URL, f"tollgate:{organization.pk}:{key}") if key else uuid4())


def id_asked(request: Request, organization: Organization) -> UUID:
    """Return an id for what this request makes: the same where it is sent again, so that it is made once."""
    key = find_key(request)
    name = f"tollgate:{organization.pk}:{key}:{fingerprint_of(request)}"
    return uuid5(NAMESPACE_URL, name) if key else uuid4()
