"""Pages of the payment provider's, opened for a program that sends its user there."""

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import BillingView, StrictSerializer, checked
from billing.api.fields import CurrencyField, IntervalField, PageField, PlanField
from billing.api.idempotency import PARAMETER, attempt_of, idempotent
from billing.api.problems import BUYING, WRITING, problems
from billing.pages import absolute, checkout_return_url
from billing.stripe.checkout import start_checkout
from billing.stripe.portal import open_portal


class CheckoutRequestSerializer(StrictSerializer):
    plan = PlanField()
    interval = IntervalField(default="month")
    currency = CurrencyField(default="usd")
    success_url = PageField(
        required=False,
        help_text="Where the customer goes after paying; `{CHECKOUT_SESSION_ID}` in it is filled in. "
        "Left out: the dashboard here.",
    )
    cancel_url = PageField(
        required=False, help_text="Where the customer goes who turns back. Left out: the billing page here."
    )


class PortalRequestSerializer(StrictSerializer):
    return_url = PageField(
        required=False, help_text="Where the customer goes afterwards. Left out: the billing page here."
    )
    flow = serializers.ChoiceField(
        ["payment_method_update"], required=False, help_text="Begin there. Left out: all of the portal."
    )


class SessionSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(
        allow_null=True, help_text="Send the customer's browser here. It is for this customer alone."
    )


class CheckoutSessions(BillingView):
    @extend_schema(
        operation_id="create_checkout_session",
        summary="Open a page on which to pay for a plan",
        description="It closes the pages opened before, so that nobody pays twice. Refused with the code "
        "`currency_fixed` for another currency than the one the customer is billed in.",
        parameters=[PARAMETER],
        request=CheckoutRequestSerializer,
        responses={
            201: SessionSerializer,
            **problems(*WRITING, *BUYING),
        },
        tags=["subscription"],
    )
    @idempotent(secrets=["url"])
    def post(self, request: Request) -> Response:
        asked = checked(CheckoutRequestSerializer, request.data)
        url = start_checkout(
            self.organization,
            plan=asked["plan"],
            interval=asked["interval"],
            currency=asked["currency"],
            attempt=attempt_of(request, self.organization),
            success_url=asked.get("success_url") or checkout_return_url(),
            cancel_url=asked.get("cancel_url") or absolute(reverse("billing")),
        )
        return Response(SessionSerializer({"url": url}).data, status=201)


class PortalSessions(BillingView):
    @extend_schema(
        operation_id="create_portal_session",
        summary="Open the page for cards, billing details and documents",
        parameters=[PARAMETER],
        request=PortalRequestSerializer,
        responses={201: SessionSerializer, **problems(*WRITING, "not_published", "rejected_by_provider")},
        tags=["subscription"],
    )
    @idempotent(secrets=["url"])
    def post(self, request: Request) -> Response:
        asked = checked(PortalRequestSerializer, request.data)
        url = open_portal(
            self.organization,
            return_url=asked.get("return_url") or absolute(reverse("billing")),
            flow=asked.get("flow"),
        )
        return Response(SessionSerializer({"url": url}).data, status=201)
