"""What can go wrong, as the API says it: RFC 9457 problem details with a stable `code`."""

from typing import Any, NamedTuple

from drf_spectacular.utils import OpenApiExample, OpenApiResponse
from rest_framework import serializers

from billing import errors


class Kind(NamedTuple):
    """How an error is answered. `retry_after` is in seconds."""

    status: int
    code: str
    title: str
    retry_after: int | None = None


# The nearest class counts. A ChangeRefused says its own code.
KINDS = {
    errors.NoSubscription: Kind(404, "no_subscription", "No subscription"),
    errors.AlreadySubscribed: Kind(409, "already_subscribed", "Already subscribed"),
    errors.NotPublished: Kind(409, "not_published", "Not on sale"),
    errors.PreviewOutdated: Kind(409, "preview_outdated", "Preview outdated"),
    errors.ChangeRefused: Kind(409, "change_refused", "Change refused"),
    errors.PaymentDeclined: Kind(402, "payment_declined", "Payment declined"),
    errors.IdempotencyKeyReused: Kind(409, "idempotency_key_reused", "Idempotency-Key reused"),
    errors.IdempotencyKeyInUse: Kind(409, "idempotency_key_in_use", "Idempotency-Key in use", 2),
    errors.StripeRejected: Kind(422, "rejected_by_provider", "Rejected by the payment provider"),
    errors.StripeUnavailable: Kind(503, "provider_unavailable", "Payment provider unavailable", 5),
    errors.BillingError: Kind(409, "refused", "Refused"),
}

# What the schema shows of each: a sentence as `detail`, and the members beside it.
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "no_subscription": ("Acme has no subscription.", {}),
    "already_subscribed": ("Acme has a subscription already.", {}),
    "not_published": ("Pro cannot be bought right now: its price is not published at Stripe.", {}),
    "preview_outdated": ("The amounts have changed since the preview.", {}),
    # Its code says what stands in the way; the endpoints name theirs.
    "change_refused": ("Your subscription is set to end. Resume it first.", {}),
    "payment_declined": ("Your card was declined.", {"decline_code": "insufficient_funds"}),
    "idempotency_key_reused": ("This Idempotency-Key was used for another request.", {}),
    "idempotency_key_in_use": (
        "The first request with this Idempotency-Key is not answered yet.",
        {"retry_after": 2},
    ),
    "rejected_by_provider": (
        "No such coupon.",
        {"provider_code": "resource_missing", "provider_param": "coupon"},
    ),
    "provider_unavailable": (
        "The payment provider cannot be reached right now. Please try again.",
        {"retry_after": 5},
    ),
}
# Those that do not come from billing.
OTHERS: dict[str, tuple[Kind, str, dict[str, Any]]] = {
    "invalid": (
        Kind(400, "invalid", "Invalid"),
        "Some of what was sent is not valid; see `errors`.",
        {"errors": {"plan": ["There is no such plan."]}},
    ),
    "invalid_key": (
        Kind(401, "invalid_key", "Invalid API key"),
        "This API key is not known: it is mistyped, revoked or expired.",
        {},
    ),
    "suspended": (
        Kind(402, "suspended", "Payment required"),
        "Your subscription gives no access until it is paid.",
        {"subscription_status": "unpaid"},
    ),
    "not_found": (Kind(404, "not_found", "Not found"), "You have no such invoice.", {}),
    "rate_limited": (
        Kind(429, "rate_limited", "Too many requests"),
        "Your Pro plan allows 100 requests a minute. Try again in 12.3 seconds.",
        {"policy": "minute", "limit": 100, "resets_at": "2026-12-03T10:00:12.300+00:00", "retry_after": 13},
    ),
    "quota_exceeded": (
        Kind(429, "quota_exceeded", "Quota used up"),
        "Your Pro plan includes 10000 units of requests a period, and this period's are used up. They are back at "
        "2026-12-03T10:00:00.000+00:00, or at once on a larger plan.",
        {
            "policy": "period",
            "limit": 10_000,
            "used": 10_000,
            "meter": "requests",
            "resets_at": "2026-12-03T10:00:00.000+00:00",
            "retry_after": 86_400,
        },
    ),
    "throttled": (
        Kind(429, "throttled", "Throttled"),
        "Request was throttled. Expected available in 60 seconds.",
        {"retry_after": 60},
    ),
    "too_many_requests": (
        Kind(429, "too_many_requests", "Too many requests"),
        "Too many requests came from your address. Try again in 42 seconds.",
        {"retry_after": 42},
    ),
}
READING = ("invalid_key", "rate_limited")
WRITING = (
    *READING,
    "invalid",
    "throttled",
    "idempotency_key_reused",
    "idempotency_key_in_use",
    "provider_unavailable",
)
BUYING = ("already_subscribed", "not_published", "change_refused", "rejected_by_provider")


class ProblemSerializer(serializers.Serializer[Any]):
    type = serializers.CharField(help_text="Always `about:blank`: `code` tells problems apart.")
    title = serializers.CharField()
    status = serializers.IntegerField(help_text="The HTTP status.")
    detail = serializers.CharField(help_text="A sentence for people.")
    code = serializers.CharField(help_text="Stable: for programs to act on.")
    request_id = serializers.CharField(help_text="Name it when you ask for help.")
    retry_after = serializers.IntegerField(required=False, help_text="Seconds, as in Retry-After.")
    errors = serializers.DictField(  # type: ignore[assignment]  # DRF takes declared fields off the class.
        required=False,
        child=serializers.ListField(child=serializers.CharField()),
        help_text="With `invalid`: what is wrong, by field.",
    )
    decline_code = serializers.CharField(
        required=False, help_text="With `payment_declined`: the bank's reason."
    )
    provider_code = serializers.CharField(
        required=False, help_text="With `rejected_by_provider`: Stripe's code."
    )
    provider_param = serializers.CharField(
        required=False, help_text="With `rejected_by_provider`: what of the request Stripe names."
    )
    policy = serializers.ChoiceField(
        ["minute", "period"],
        required=False,
        help_text="With a limit: which one, of the minute or of the period.",
    )
    limit = serializers.IntegerField(required=False, help_text="With a limit: what it allows.")
    used = serializers.IntegerField(
        required=False, help_text="With `quota_exceeded`: units used this period."
    )
    meter = serializers.CharField(required=False, help_text="With `quota_exceeded`: what was counted.")
    resets_at = serializers.DateTimeField(required=False, help_text="With a limit: when there is room again.")
    subscription_status = serializers.CharField(
        required=False, help_text="With `suspended`: Stripe's status."
    )


def problems(*codes: str) -> dict[tuple[int, str], OpenApiResponse]:
    """Return the responses of the schema for these codes, each with an example; those of one status together."""
    described = {kind.code: (kind, *EXAMPLES[kind.code]) for kind in KINDS.values() if kind.code in EXAMPLES}
    by_status: dict[int, list[tuple[Kind, str, dict[str, Any]]]] = {}
    for code in dict.fromkeys(codes):
        entry = (described | OTHERS)[code]
        by_status.setdefault(entry[0].status, []).append(entry)
    return {
        (status, "application/problem+json"): OpenApiResponse(
            ProblemSerializer,
            description=", ".join(f"`{kind.code}`" for kind, *_ in entries),
            examples=[example(*entry) for entry in entries],
        )
        for status, entries in sorted(by_status.items())
    }


def example(kind: Kind, detail: str, members: dict[str, Any]) -> OpenApiExample:
    return OpenApiExample(
        kind.code,
        value={
            "type": "about:blank",
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "code": kind.code,
            "request_id": "req_5f2b1c0e9d8a4b7c8e6f3a2d1b0c9e8f",
            **members,
        },
        response_only=True,
        status_codes=[str(kind.status)],
        media_type="application/problem+json",
    )
