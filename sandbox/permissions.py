"""What a restricted key must be allowed for each endpoint, by the names that Stripe's refusals use.

The names are those of https://docs.stripe.com/stripe-apps/reference/permissions, and of the account and the
event destinations those that Stripe's refusals name. Which one a rarer endpoint asks for is a guess.
"""

from sandbox.errors import ApiError

# By the beginning of the path; the longest one that fits counts.
RESOURCES = {
    "/v1/account": "accounts_kyc_basic",
    "/v1/balance_transactions": "balance_transaction_source",
    "/v1/billing/meter_event": "billing_meter_event",
    "/v1/billing/meters": "billing_meter",
    "/v1/billing_portal": "customer_portal",
    "/v1/charges": "charge",
    "/v1/checkout": "checkout_session",
    "/v1/coupons": "coupon",
    "/v1/credit_notes": "credit_note",
    "/v1/customers": "customer",
    "/v1/events": "event",
    "/v1/invoice": "invoice",
    "/v1/payment_intents": "payment_intent",
    "/v1/payment_methods": "payment_method",
    "/v1/payment_pages": "checkout_session",
    "/v1/prices": "plan",
    "/v1/products": "product",
    "/v1/promotion_codes": "promotion_code",
    "/v1/refunds": "charge",
    "/v1/setup_": "setup_intent",
    "/v1/subscription": "subscription",
    "/v1/tax/calculations": "tax_calculations_and_transactions",
    "/v1/tax/registrations": "tax_settings",
    "/v1/tax/settings": "tax_settings",
    "/v1/tax_codes": "product",
    "/v1/tax_ids": "customer",
    "/v1/tax_rates": "tax_rate",
    "/v1/test_helpers/test_clocks": "billing_clock",
    "/v1/tokens": "token",
    "/v1/webhook_endpoints": "webhook",
    "/v2/billing": "billing_meter_event",
    "/v2/core/event_destinations": "webhook",
    "/v2/core/events": "event",
}
ACTIONS = ("read", "write")


def needed(method: str, path: str) -> str:
    """Return the permission that a request needs. Raises KeyError for a path that is no endpoint's."""
    fitting = [beginning for beginning in RESOURCES if path.startswith(beginning)]
    if not fitting:
        raise KeyError(path)
    return f"{RESOURCES[max(fitting, key=len)]}_{'read' if method == 'GET' else 'write'}"


def check_names(names: list[str]) -> list[str]:
    """Return the permissions, each once. Raises ApiError for one that no endpoint asks for."""
    known = {f"{resource}_{action}" for resource in RESOURCES.values() for action in ACTIONS}
    for name in names:
        if name not in known:
            raise ApiError(
                f"Invalid permissions: {name} is none of {', '.join(sorted(known))}", param="permissions"
            )
    return sorted(set(names))


def allows(permissions: list[str], method: str, path: str) -> bool:
    """Return whether one of the permissions covers a request. Writing implies reading."""
    try:
        name = needed(method, path)
    except KeyError:
        return True  # No endpoint: the answer will say so.
    return name in permissions or name.removesuffix("read") + "write" in permissions
