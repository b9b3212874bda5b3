"""Subscribing, with the first API key beside what billing answers."""

import logging
from typing import Any

from drf_spectacular.utils import extend_schema
from redis.exceptions import RedisError
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.session_auth import SessionClient
from apikeys.errors import KeyLimitReached
from apikeys.first_key import issue_first_key
from billing.api.idempotency import PARAMETER, REPLAYED
from billing.api.problems import BUYING, WRITING, problems
from billing.api.representing import NewSubscriptionSerializer, SubscribeRequestSerializer
from billing.api.subscription import Subscription as BillingSubscription
from billing.api.subscription import SubscriptionView

logger = logging.getLogger(__name__)


class FirstSubscriptionSerializer(NewSubscriptionSerializer):
    api_key = serializers.CharField(
        allow_null=True,
        help_text="Your first API key, in full: shown in this answer alone and stored nowhere. Null where you have a "
        "live key already, where the request is sent again, and where its sender may not give one.",
    )


class Subscription(BillingSubscription):
    @extend_schema(
        operation_id="create_subscription",
        summary="Subscribe to a plan",
        description="It counts once the first payment is confirmed with `client_secret`. There is one subscription "
        "at most: for another plan change it. Who has no live API key yet gets the first one with it. Refused with "
        "the code `currency_fixed`, `address_required` or `trial_used` where that stands in the way.",
        parameters=[PARAMETER],
        request=SubscribeRequestSerializer,
        responses={201: FirstSubscriptionSerializer, **problems(*WRITING, *BUYING)},
        tags=["subscription"],
    )
    def post(self, request: Request) -> Response:
        response = super().post(request)
        is_replay = all(response.get(name) == value for name, value in REPLAYED.items())
        # After the subscription, which may fail; and never stored with the answer to an Idempotency-Key.
        response.data = {**response.data, "api_key": None if is_replay else find_first_key(self)}
        return response


def find_first_key(view: SubscriptionView) -> str | None:
    """Return a new key in full where the organization has none and the caller may give one, else None.

    The subscription is there by now, so nothing that fails here is the caller's error: a key can be had later.
    """
    client: Any = view.request.user
    person = client.user if isinstance(client, SessionClient) else None
    if person is None:
        may = not view.organization.api_keys.get(pk=client.api_key_id).scopes
    else:
        may = client.role.manages_keys
    if not may:
        return None
    try:
        issued = issue_first_key(view.organization, user=person)
    except (KeyLimitReached, RedisError) as error:
        logger.warning("%s has subscribed and gets no first key: %s", view.organization.ref, error)
        return None
    return issued[1] if issued else None
