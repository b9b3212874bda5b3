"""Usage that the operator's own services tell of."""

from collections import Counter
from typing import Any

from django.db import DataError, InterfaceError, InternalError, OperationalError
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from accounts.limits import EVENT_CALLS, seconds_over
from apikeys.api.service import HasServiceScope, ServiceTokenAuthentication
from apikeys.ingest_bodies import (
    CLOUD_BATCH,
    CLOUD_EVENT,
    ITEM_SIZE,
    JSON,
    MOST,
    Sent,
    is_oversized,
    problem,
    read_request,
)
from apikeys.models import ServiceToken
from billing.api.problems import problems
from usage.ingest.items import Item, Outcome, Refused
from usage.ingest.reading import LENGTH, read_cloud
from usage.ingest.storing import ingest

STATUSES = ("accepted", "duplicate", "refused")
CODES = (
    *("missing", "invalid", "oversized", "negative", "not_finite", "not_whole", "too_large"),
    *("unknown_organization", "unknown_meter", "not_in_plan", "too_old", "in_future", "conflict"),
)


BATCH = {
    "type": "array",
    "items": {"type": "object", "additionalProperties": {}},
    "maxItems": MOST,
    "description": "CloudEvents 1.0.",
}


class EventSerializer(serializers.Serializer[Any]):
    """Usage of one customer that another service counted. It belongs to the quota period that its `time` lies in."""

    # For the schema alone: `usage.ingest.reading` reads them.

    source = serializers.CharField(  # type: ignore[assignment]  # DRF takes declared fields off the class.
        max_length=LENGTH, help_text="Who tells of it, such as a service's name."
    )
    id = serializers.CharField(
        max_length=LENGTH,
        help_text="Yours: with the source it names the event for good, so that it may be sent again.",
    )
    organization = serializers.CharField(help_text="The customer's ref.")
    meter = serializers.CharField(help_text="A meter's slug.")
    time = serializers.DateTimeField(
        required=False, allow_null=True, help_text="RFC 3339, with its offset. Left out: now."
    )
    value = serializers.JSONField(
        required=False,
        help_text="A whole number for a sum or a maximum; a text or a number for what is counted once a period; left "
        "out where each event counts as 1.",
    )


class EventsSerializer(serializers.Serializer[Any]):
    events = EventSerializer(many=True, help_text=f"At most {MOST:,}.")


class EventResultSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="Its place among those sent, from 0.")
    id = serializers.CharField(
        allow_null=True, help_text="As it was sent; null where it cannot be told back."
    )
    status = serializers.ChoiceField(STATUSES)
    code = serializers.ChoiceField(CODES, allow_null=True, help_text="Why it was refused.")
    detail = serializers.CharField(allow_null=True, help_text="The same as a sentence for people.")


class EventResultsSerializer(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    duplicates = serializers.IntegerField(help_text="Taken by an earlier call: nothing is counted twice.")
    refused = serializers.IntegerField()
    results = EventResultSerializer(many=True)


class EventThrottle(BaseThrottle):
    """Limit the calls of each service token."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self.seconds = seconds_over(
            request._request, group="events", caller=f"token {request.user.pk}", limit=EVENT_CALLS
        )
        return not self.seconds

    def wait(self) -> float:
        return self.seconds


class Events(APIView):
    """Takes usage events. What can be taken is, whatever is wrong with the others: `results` says it of each.

    The answer comes when they are stored for good. Without one, or with a 503, send the same again.
    """

    authentication_classes = [ServiceTokenAuthentication]
    permission_classes = [HasServiceScope]
    throttle_classes = [EventThrottle]
    service_scope = ServiceToken.Scope.EVENTS

    @extend_schema(
        operation_id="events_create",
        summary="Send usage events",
        request={JSON: EventsSerializer, CLOUD_EVENT: OpenApiTypes.OBJECT, CLOUD_BATCH: BATCH},
        responses={
            200: EventResultsSerializer,
            **problems(
                "invalid",
                "invalid_service_token",
                "insufficient_scope",
                "length_required",
                "content_too_large",
                "unsupported_media_type",
                "unsupported_encoding",
                "throttled",
                "events_not_stored",
            ),
        },
        examples=[
            OpenApiExample(
                "One event",
                value={
                    "events": [
                        {
                            "source": "render-farm",
                            "id": "job-4711",
                            "organization": "3kTMd9VbQ2",
                            "meter": "tokens",
                            "time": "2026-11-30T23:59:59Z",
                            "value": 1250,
                        }
                    ]
                },
                request_only=True,
                media_type=JSON,
            )
        ],
        tags=["gateway"],
    )
    def post(self, request: Request) -> Response:
        sent = read_request(request._request)
        outcomes: list[Outcome | None] = []
        items: list[Item] = []
        for event in sent.events:
            try:
                items.append(read(event, sent))
            except Refused as refused:
                outcomes.append(Outcome.of(refused))
            else:
                outcomes.append(None)
        try:
            taken = iter(ingest(items))
        except (OperationalError, InterfaceError, InternalError) as error:
            raise problem("events_not_stored") from error
        except DataError as error:
            detail = "With these events a period's units are more than can be kept: none of them was stored."
            raise problem("invalid", detail) from error
        done = [outcome or next(taken) for outcome in outcomes]
        counts = Counter(outcome.status for outcome in done)
        return Response(
            {
                "accepted": counts["accepted"],
                "duplicates": counts["duplicate"],
                "refused": counts["refused"],
                "results": [
                    {"index": index, "id": id_of(event), **outcome._asdict()}
                    for index, (event, outcome) in enumerate(zip(sent.events, done, strict=True))
                ],
            },
            headers={"Cache-Control": "no-store"},
        )


def read(event: Any, sent: Sent) -> Item:
    """Return an event of those sent. Raises Refused."""
    # A plain one is bounded by its fields.
    if sent.size > ITEM_SIZE and sent.read is read_cloud and is_oversized(event):
        raise Refused("oversized", f"The event is larger than {ITEM_SIZE:,} bytes.")
    return sent.read(event)


def id_of(event: Any) -> str | None:
    """Return the id that an event was sent with, None where it cannot be told back."""
    id_ = event.get("id") if isinstance(event, dict) else None
    if not isinstance(id_, str) or len(id_) > LENGTH:
        return None
    try:
        id_.encode()
    except UnicodeEncodeError:
        return None
    return id_
