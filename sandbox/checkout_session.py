"""A Checkout session as it is when it opens."""

from typing import Any

from sandbox.errors import ApiError
from sandbox.params import merge_metadata
from sandbox.state import Sandbox
from sandbox.store import Object


def new_session(
    state: Sandbox, params: dict[str, Any], *, lines: list[Object], customer: Object | None, expires_at: int
) -> Object:
    """Return an open session not yet stored. Raises ApiError for lines or trials that do not fit together."""
    if len({line["currency"] for line in lines}) > 1:
        raise ApiError("All line items must have the same currency.", param="line_items")
    data = params.get("subscription_data", {})
    if "trial_end" in data and "trial_period_days" in data:
        raise ApiError("You may only specify one of these parameters: trial_end, trial_period_days.")
    if "trial_end" in data and data["trial_end"] < state.now() + 48 * 3600:
        raise ApiError(
            "The `trial_end` date has to be at least 2 days in the future.",
            param="subscription_data[trial_end]",
        )
    # Checked now, as Stripe does, so that the page cannot fail on it later.
    _check_distinct(lines)
    trial = "trial_end" in data or "trial_period_days" in data
    total = 0 if trial else sum(line["amount_total"] for line in lines)
    identifier = state.new_id("checkout.session")
    email = customer["email"] if customer else params.get("customer_email")
    return state.new(
        "checkout.session",
        id=identifier,
        adaptive_pricing={"enabled": False},
        after_expiration=None,
        allow_promotion_codes=None,
        amount_subtotal=total,
        amount_total=total,
        automatic_tax={"enabled": False, "liability": None, "provider": None, "status": None},
        billing_address_collection=params.get("billing_address_collection"),
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        client_secret=None,
        collected_information={"business_name": None, "individual_name": None, "shipping_details": None},
        consent=None,
        consent_collection=None,
        currency=lines[0]["currency"],
        currency_conversion=None,
        custom_fields=[],
        custom_text={
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        customer=customer["id"] if customer else None,
        customer_account=None,
        customer_creation=None if customer else "always",
        customer_details=None
        if email is None
        else {
            "address": None,
            "business_name": None,
            "email": email,
            "individual_name": None,
            "name": None,
            "phone": None,
            "tax_exempt": "none",
            "tax_ids": None,
        },
        customer_email=params.get("customer_email"),
        discounts=[],
        expires_at=expires_at,
        invoice=None,
        invoice_creation=None,
        locale=params.get("locale"),
        metadata=merge_metadata({}, params.get("metadata") or {}),
        mode="subscription",
        origin_context=None,
        payment_intent=None,
        payment_link=None,
        payment_method_collection=params.get("payment_method_collection", "always"),
        payment_method_configuration_details=None,
        payment_method_options={"card": {"request_three_d_secure": "automatic"}},
        payment_method_types=["card"],
        payment_status="unpaid",
        permissions=None,
        phone_number_collection={"enabled": False},
        recovered_from=None,
        saved_payment_method_options={
            "allow_redisplay_filters": ["always"],
            "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        setup_intent=None,
        shipping_address_collection=None,
        shipping_cost=None,
        shipping_options=[],
        status="open",
        submit_type=None,
        subscription=None,
        success_url=params["success_url"],
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        ui_mode="hosted_page",
        url=f"{state.base_url}/c/pay/{identifier}",
        wallet_options=None,
        _lines=lines,
        _subscription_data={**data, "metadata": merge_metadata({}, data.get("metadata") or {})},
    )


def _check_distinct(lines: list[Object]) -> None:
    if len({line["price"] for line in lines}) < len(lines):
        raise ApiError("You cannot use the same recurring price on several line items.", param="line_items")
