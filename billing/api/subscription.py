"""The caller's subscription: what it is, begun, changed and ended."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import BillingView, checked
from billing.api.idempotency import PARAMETER, idempotent
from billing.api.problems import BUYING, READING, WRITING, problems
from billing.api.representing import (
    CancelPreviewSerializer,
    ChangePreviewSerializer,
    ChangeQuerySerializer,
    ChangeRequestSerializer,
    EndQuerySerializer,
    NewSubscriptionSerializer,
    OutcomeSerializer,
    SubscribeRequestSerializer,
    SubscriptionSerializer,
    represent,
)
from billing.entitlements import current_entitlement
from billing.errors import ChangeRefused
from billing.models import PlanPrice
from billing.outlook import describe_refused_trial
from billing.standing import find_standing
from billing.stripe import ending
from billing.stripe.changing import change_plan, undo_change
from billing.stripe.previewing import preview_change
from billing.stripe.subscribing import create_subscription

TAGS = ["subscription"]
CHANGING = ("no_subscription", "not_published", "change_refused", "rejected_by_provider")


class SubscriptionView(BillingView):
    def representation(self) -> dict[str, Any]:
        """Return the subscription as it is now, from the mirror."""
        entitlement, standing = current_entitlement(self.organization), find_standing(self.organization)
        refused_trial = "" if standing else describe_refused_trial(self.organization)
        return represent(entitlement, standing, message=refused_trial or entitlement.banner)

    def interval_of(self, asked: dict[str, Any]) -> str:
        """Return the interval that was asked for, else the present one."""
        standing = find_standing(self.organization)
        return str(asked.get("interval") or (standing.interval if standing else PlanPrice.Interval.MONTH))


class Subscription(SubscriptionView):
    @extend_schema(
        operation_id="retrieve_subscription",
        summary="Your plan and subscription",
        description="There is always a plan: without a subscription it is the free one, and `status` is `none`, or "
        "what the last subscription came to.",
        responses={200: SubscriptionSerializer, **problems(*READING)},
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        return Response(SubscriptionSerializer(self.representation()).data)

    @extend_schema(
        operation_id="create_subscription",
        summary="Subscribe to a plan",
        description="It counts once the first payment is confirmed with `client_secret`. There is one subscription "
        "at most: for another plan change it. Refused with the code `currency_fixed`, `address_required` or "
        "`trial_used` where that stands in the way.",
        parameters=[PARAMETER],
        request=SubscribeRequestSerializer,
        responses={
            201: NewSubscriptionSerializer,
            **problems(*WRITING, *BUYING),
        },
        tags=TAGS,
    )
    @idempotent(secrets=["client_secret"])
    def post(self, request: Request) -> Response:
        asked = checked(SubscribeRequestSerializer, request.data)
        created = create_subscription(self.organization, **asked)
        return Response(NewSubscriptionSerializer(created).data, status=201)

    @extend_schema(
        operation_id="change_subscription",
        summary="Change to another plan or interval",
        description="An upgrade is charged and applies at once; a downgrade applies when what is paid for ends. "
        "Asking for what is so already is no error. Refused with the code `set_to_end`, `payment_overdue`, "
        "`incomplete`, `paused` or `renewing` where that stands in the way.",
        parameters=[PARAMETER],
        request=ChangeRequestSerializer,
        responses={
            200: OutcomeSerializer,
            202: OutcomeSerializer,
            **problems(*WRITING, *CHANGING, "payment_declined", "preview_outdated"),
        },
        tags=TAGS,
    )
    @idempotent()
    def patch(self, request: Request) -> Response:
        asked = checked(ChangeRequestSerializer, request.data)
        state, payment_url = "done", ""
        try:
            outcome = change_plan(
                self.organization,
                plan=asked["plan"],
                interval=self.interval_of(asked),
                token=asked.get("token"),
            )
            state, payment_url = outcome.state, outcome.payment_url
        except ChangeRefused as error:
            if error.code != "nothing_changes":
                raise
        answer = {"outcome": state, "payment_url": payment_url, "subscription": self.representation()}
        status = 202 if state == "requires_action" else 200
        return Response(OutcomeSerializer(answer).data, status=status)

    @extend_schema(
        operation_id="cancel_subscription",
        summary="Cancel the subscription",
        parameters=[PARAMETER, EndQuerySerializer],
        responses={200: SubscriptionSerializer, **problems(*WRITING, *CHANGING)},
        tags=TAGS,
    )
    @idempotent()
    def delete(self, request: Request) -> Response:
        when = checked(EndQuerySerializer, request.query_params.dict())["when"]
        if when == "now":
            ending.cancel_now(self.organization)
        else:
            ending.cancel_at_period_end(self.organization)
        return Response(SubscriptionSerializer(self.representation()).data)


class ChangePreview(SubscriptionView):
    @extend_schema(
        operation_id="preview_subscription_change",
        summary="What a change would cost, to the cent",
        parameters=[ChangeQuerySerializer],
        responses={
            200: ChangePreviewSerializer,
            **problems(*READING, "invalid", *CHANGING, "provider_unavailable"),
        },
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        asked = checked(ChangeQuerySerializer, request.query_params.dict())
        preview = preview_change(self.organization, plan=asked["plan"], interval=self.interval_of(asked))
        return Response(ChangePreviewSerializer(preview).data)


class CancelPreview(SubscriptionView):
    @extend_schema(
        operation_id="preview_subscription_cancellation",
        summary="What the last invoice would be if it were cancelled now",
        responses={200: CancelPreviewSerializer, **problems(*READING, *CHANGING, "provider_unavailable")},
        tags=TAGS,
    )
    def get(self, request: Request) -> Response:
        return Response(CancelPreviewSerializer(ending.preview_cancel_now(self.organization)).data)


class Resume(SubscriptionView):
    @extend_schema(
        operation_id="resume_subscription",
        summary="Take a cancellation back",
        parameters=[PARAMETER],
        request=None,
        responses={200: SubscriptionSerializer, **problems(*WRITING, *CHANGING)},
        tags=TAGS,
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        ending.resume(self.organization)
        return Response(SubscriptionSerializer(self.representation()).data)


class Undo(SubscriptionView):
    @extend_schema(
        operation_id="undo_subscription_change",
        summary="Take back a scheduled change, or give up an upgrade that waits for its payment",
        description="Refused with the code `already_paid` where the payment has come in the meantime.",
        parameters=[PARAMETER],
        request=None,
        responses={200: SubscriptionSerializer, **problems(*WRITING, *CHANGING)},
        tags=TAGS,
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        undo_change(self.organization)
        return Response(SubscriptionSerializer(self.representation()).data)
