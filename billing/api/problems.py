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
BILLING_PAGE = "https://api.example.com/dashboard/billing/"
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
    "expired_key": (
        Kind(401, "expired_key", "Expired API key"),
        "This API key has expired. Use its successor, or make a new one.",
        {},
    ),
    "invalid_service_token": (
        Kind(401, "invalid_service_token", "Invalid service token"),
        "Send a service token of Tollgate's as `Authorization: Bearer <token>`. Staff make one in the back office.",
        {},
    ),
    "suspended": (
        Kind(402, "suspended", "Payment required"),
        "Your subscription gives no access until it is paid.",
        {"subscription_status": "unpaid", "upgrade_url": BILLING_PAGE},
    ),
    "address_not_allowed": (
        Kind(403, "address_not_allowed", "Address not allowed"),
        "This API key may not be used from your IP address.",
        {},
    ),
    "insufficient_scope": (
        Kind(403, "insufficient_scope", "Insufficient scope"),
        "This API key lacks a scope that the call needs: forecasts:read.",
        {"scopes": ["forecasts:read"]},
    ),
    "not_in_plan": (
        Kind(403, "not_in_plan", "Not in your plan"),
        "Your plan includes no tokens.",
        {"meter": "tokens", "upgrade_url": BILLING_PAGE},
    ),
    "permission_denied": (
        Kind(403, "permission_denied", "Permission denied"),
        "Your role (Billing) may not do this.",
        {},
    ),
    "key_limit_reached": (
        Kind(409, "key_limit_reached", "Key limit reached"),
        "Free includes 5 active API keys: revoke one, or choose a larger plan.",
        {"limit": 5},
    ),
    "key_not_active": (
        Kind(409, "key_not_active", "Key not active"),
        "“production” is revoked, which is final. Create another key.",
        {},
    ),
    "rotation_refused": (
        Kind(409, "rotation_refused", "Rotation refused"),
        "“production” has been replaced already, by sk_live_7Kd02mXqPa4f…",
        {},
    ),
    "scope_exceeded": (
        Kind(403, "scope_exceeded", "Scope exceeded"),
        "This key is restricted to keys:write: it cannot give a key that may do everything.",
        {},
    ),
    "key_not_changed": (
        Kind(503, "key_not_changed", "Temporarily unavailable"),
        "The change could not be made everywhere at once, so nothing has changed. Please try again.",
        {"retry_after": 1},
    ),
    "reservation_settled": (
        Kind(409, "reservation_settled", "Reservation settled"),
        "This reservation has been settled with other values: 312 units are billed.",
        {"units": 312},
    ),
    "reservation_expired": (
        Kind(409, "reservation_expired", "Reservation expired"),
        "Nobody settled this reservation in time: all of its 4000 units are billed.",
        {"units": 4000},
    ),
    "not_found": (Kind(404, "not_found", "Not found"), "You have no such invoice.", {}),
    "length_required": (
        Kind(411, "length_required", "Length required"),
        "Send a Content-Length: a body in chunks is not taken.",
        {},
    ),
    "content_too_large": (
        Kind(413, "content_too_large", "Content too large"),
        "1,200 events came at once: 1,000 is the most.",
        {},
    ),
    "unsupported_media_type": (
        Kind(415, "unsupported_media_type", "Unsupported media type"),
        "Send events as application/json, application/cloudevents+json or application/cloudevents-batch+json.",
        {},
    ),
    "unsupported_encoding": (
        Kind(415, "unsupported_encoding", "Unsupported content encoding"),
        "Send the body as it is, or with Content-Encoding: gzip.",
        {},
    ),
    "events_not_stored": (
        Kind(503, "events_not_stored", "Temporarily unavailable"),
        "Whether the events were stored is not known. Send the same again: none is counted twice.",
        {"retry_after": 1},
    ),
    "rate_limited": (
        Kind(429, "rate_limited", "Too many requests"),
        "Your Pro plan allows 100 requests a minute. Try again in 12.3 seconds. Team would allow 500 a minute.",
        {
            "policy": "minute",
            "limit": 100,
            "resets_at": "2026-12-03T10:00:12.300+00:00",
            "next_plan": {"slug": "team", "name": "Team", "limit": 500},
            "upgrade_url": BILLING_PAGE,
            "retry_after": 13,
        },
    ),
    "quota_exceeded": (
        Kind(429, "quota_exceeded", "Quota used up"),
        "Your Pro plan includes 10000 units of requests a period: this period's are used up. They are back at "
        "2026-12-03T10:00:00.000+00:00. Team would include 100000 units of requests a month.",
        {
            "policy": "period",
            "limit": 10_000,
            "used": 10_000,
            "meter": "requests",
            "runs_out_at": "2026-12-02T10:00:00.000+00:00",
            "resets_at": "2026-12-03T10:00:00.000+00:00",
            "next_plan": {"slug": "team", "name": "Team", "limit": 100_000},
            "upgrade_url": BILLING_PAGE,
            "retry_after": 86_400,
        },
    ),
    "spend_cap_reached": (
        Kind(429, "spend_cap_reached", "Spend cap reached"),
        "Your own spend cap stops at 12000 units of requests a period: this period's are used up. Calls are let in "
        "again at 2026-12-03T10:00:00.000+00:00, or at once when you raise it.",
        {
            "policy": "spend_cap",
            "limit": 12_000,
            "used": 12_000,
            "meter": "requests",
            "runs_out_at": "2026-12-02T10:00:00.000+00:00",
            "resets_at": "2026-12-03T10:00:00.000+00:00",
            "next_plan": None,
            "upgrade_url": BILLING_PAGE,
            "retry_after": 86_400,
        },
    ),
    "throttled": (
        Kind(429, "throttled", "Throttled"),
        "Request was throttled. Expected available in 42 seconds.",
        {"retry_after": 42},
    ),
    "too_many_requests": (
        Kind(429, "too_many_requests", "Too many requests"),
        "Too many requests came from your address. Try again in 42 seconds.",
        {"retry_after": 42},
    ),
    "gate_unavailable": (
        Kind(503, "gate_unavailable", "Temporarily unavailable"),
        "The call could not be checked against your plan. Please try again.",
        {"retry_after": 1},
    ),
}
# What the gate says of a key, and the limits of the management API.
READING = (
    "invalid_key",
    "expired_key",
    "address_not_allowed",
    "insufficient_scope",
    "throttled",
    "too_many_requests",
)
WRITING = (
    *READING,
    "invalid",
    "permission_denied",
    "idempotency_key_reused",
    "idempotency_key_in_use",
    "provider_unavailable",
)
BUYING = ("already_subscribed", "not_published", "change_refused", "rejected_by_provider")


class NextPlanSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    limit = serializers.IntegerField(allow_null=True, help_text="Null: none.")


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
        ["burst", "minute", "key", "period", "spend_cap"],
        required=False,
        help_text="With a limit: which one. `key` is the key's own cap, `spend_cap` the customer's.",
    )
    limit = serializers.IntegerField(required=False, help_text="With a limit: what it allows.")
    used = serializers.IntegerField(required=False, help_text="With a limit of units: used this period.")
    meter = serializers.CharField(required=False, help_text="With a limit of units: what was counted.")
    runs_out_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="With a limit of units: when they are gone."
    )
    resets_at = serializers.DateTimeField(required=False, help_text="With a limit: when there is room again.")
    next_plan = NextPlanSerializer(
        required=False, allow_null=True, help_text="With a limit: the cheapest plan that would allow more."
    )
    upgrade_url = serializers.URLField(
        required=False, allow_null=True, help_text="With a limit: where the customer lifts it."
    )
    scopes = serializers.ListField(
        required=False,
        child=serializers.CharField(),
        help_text="With `insufficient_scope`: what the call needs.",
    )
    units = serializers.IntegerField(required=False, help_text="With a reservation: what is billed for it.")
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
