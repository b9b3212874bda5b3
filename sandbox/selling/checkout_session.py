"""A Checkout session as it is when it opens."""

from typing import Any

from sandbox.catalog.taxing import get_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.params import merge_metadata
from sandbox.payments.setting_up import new_setup_intent
from sandbox.state import Sandbox
from sandbox.store import Object

# Parameters that make sense in some modes only.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "customer_creation": ("payment", "setup"),
    "invoice_creation": ("payment",),
    "payment_intent_data": ("payment",),
    "payment_method_collection": ("subscription",),
    "setup_intent_data": ("setup",),
    "subscription_data": ("subscription",),
    "line_items": ("payment", "subscription"),
    "discounts": ("payment", "subscription"),
    "allow_promotion_codes": ("payment", "subscription"),
    "automatic_tax": ("payment", "subscription"),
}
TEXTS = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")


def check_mode(params: dict[str, Any]) -> None:
    """Raise ApiError (400) for parameters that the session's mode does not take."""
    for name, modes in ONLY_IN.items():
        given = params.get(name)
        off = isinstance(given, dict) and given.get("enabled") is False
        if given and not off and params["mode"] not in modes:
            raise ApiError(f"You can not pass `{name}` in `{params['mode']}` mode.", param=name)
    submit = params.get("submit_type", "auto")
    if submit not in ("auto", "subscribe") and params["mode"] != "payment":
        raise ApiError("`submit_type` can only be specified on `payment` mode sessions.", param="submit_type")
    if submit == "subscribe" and params["mode"] != "subscription":
        raise ApiError("`submit_type` of `subscribe` needs `subscription` mode.", param="submit_type")


def check_trial(state: Sandbox, data: dict[str, Any]) -> None:
    """Raise ApiError (400) for a trial or an anchor that cannot be."""
    if "trial_end" in data and "trial_period_days" in data:
        raise ApiError("You may only specify one of these parameters: trial_end, trial_period_days.")
    if "trial_end" in data and data["trial_end"] < state.now() + 48 * 3600:
        raise ApiError(
            "The `trial_end` date has to be at least 2 days in the future.",
            param="subscription_data[trial_end]",
        )
    trial = "trial_end" in data or "trial_period_days" in data
    if "billing_cycle_anchor" in data and trial:
        raise ApiError(
            "You cannot set `billing_cycle_anchor` together with a trial.",
            param="subscription_data[billing_cycle_anchor]",
        )
    if "proration_behavior" in data and "billing_cycle_anchor" not in data:
        raise ApiError(
            "`subscription_data[proration_behavior]` needs `subscription_data[billing_cycle_anchor]`.",
            param="subscription_data[proration_behavior]",
        )
    if "trial_settings" in data and not trial:
        raise ApiError(
            "`subscription_data[trial_settings]` needs a trial.", param="subscription_data[trial_settings]"
        )


def new_session(
    state: Sandbox, params: dict[str, Any], *, lines: list[Object], customer: Object | None, expires_at: int
) -> Object:
    """Return an open session not yet stored, its amounts still to be worked out."""
    mode = params["mode"]
    data = params.get("subscription_data", {})
    get_tax_rates(state, data.get("default_tax_rates", []), param="subscription_data[default_tax_rates]")
    identifier = state.new_id("checkout.session")
    automatic = params.get("automatic_tax", {}).get("enabled", False)
    saved = params.get("saved_payment_method_options", {})
    session = state.new(
        "checkout.session",
        id=identifier,
        adaptive_pricing={"enabled": False},
        after_expiration=None,
        allow_promotion_codes=params.get("allow_promotion_codes"),
        amount_subtotal=None if mode == "setup" else 0,
        amount_total=None if mode == "setup" else 0,
        automatic_tax={
            "enabled": automatic,
            "liability": {"type": "self"} if automatic else None,
            "provider": "stripe" if automatic else None,
            "status": "requires_location_inputs" if automatic else None,
        },
        billing_address_collection=params.get("billing_address_collection"),
        cancel_url=params.get("cancel_url"),
        client_reference_id=params.get("client_reference_id"),
        client_secret=None,
        collected_information={"business_name": None, "individual_name": None, "shipping_details": None},
        consent=None,
        consent_collection=_consents(params.get("consent_collection")),
        currency=lines[0]["currency"] if lines else params.get("currency"),
        currency_conversion=None,
        custom_fields=[],
        custom_text={name: params.get("custom_text", {}).get(name) for name in TEXTS},
        customer=customer["id"] if customer else None,
        customer_account=None,
        customer_creation=None if customer else _creation(params),
        customer_details=_details(customer, params.get("customer_email")),
        customer_email=params.get("customer_email"),
        discounts=[
            {"coupon": each.get("coupon"), "promotion_code": each.get("promotion_code")}
            for each in params.get("discounts", [])
        ],
        expires_at=expires_at,
        integration_identifier=params.get("integration_identifier"),
        invoice=None,
        invoice_creation=_invoice_creation(params) if mode == "payment" else None,
        locale=params.get("locale"),
        metadata=merge_metadata({}, params.get("metadata") or {}),
        mode=mode,
        origin_context=params.get("origin_context"),
        payment_intent=None,
        payment_link=None,
        payment_method_collection=params.get("payment_method_collection", "always")
        if mode == "subscription"
        else "if_required"
        if mode == "payment"
        else "always",
        payment_method_configuration_details=None,
        payment_method_options={"card": {"request_three_d_secure": "automatic"}},
        payment_method_types=["card"],
        payment_status="no_payment_required" if mode == "setup" else "unpaid",
        permissions=None,
        phone_number_collection={"enabled": params.get("phone_number_collection", {}).get("enabled", False)},
        recovered_from=None,
        saved_payment_method_options=None
        if mode == "setup"
        else {
            "allow_redisplay_filters": saved.get("allow_redisplay_filters", ["always"]),
            "payment_method_remove": "disabled",
            "payment_method_save": saved.get("payment_method_save"),
        },
        setup_intent=None,
        shipping_address_collection=None,
        shipping_cost=None,
        shipping_options=[],
        status="open",
        submit_type=params.get("submit_type"),
        subscription=None,
        success_url=params["success_url"],
        total_details=None
        if mode == "setup"
        else {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        ui_mode="hosted_page",
        url=f"{state.base_url}/c/pay/{identifier}",
        wallet_options=None,
        # The visit so far: the try that waits for its payer to authenticate, and what was typed before.
        _attempt=None,
        _breakdown={"discounts": [], "taxes": []},
        _customer_update=params.get("customer_update", {}),
        _lines=lines,
        _payment_intent_data=params.get("payment_intent_data", {}),
        _redisplay=params.get("payment_method_data", {}).get("allow_redisplay"),
        _subscription_data={**data, "metadata": merge_metadata({}, data.get("metadata") or {})},
        _typed={},
    )
    if "tax_id_collection" in params:
        session["tax_id_collection"] = {"required": "never", **params["tax_id_collection"]}
    if mode == "setup":
        given = params.get("setup_intent_data", {})
        intent = new_setup_intent(
            state,
            customer=session["customer"],
            description=given.get("description"),
            metadata=merge_metadata({}, given.get("metadata") or {}),
        )
        session["setup_intent"] = intent["id"]
    return session


def _creation(params: dict[str, Any]) -> str:
    if params["mode"] == "subscription":
        return "always"
    if params["mode"] == "payment" and (
        params.get("invoice_creation", {}).get("enabled")
        or "setup_future_usage" in params.get("payment_intent_data", {})
    ):
        return "always"
    return str(params.get("customer_creation", "if_required"))


def _consents(given: dict[str, Any] | None) -> Object | None:
    if given is None:
        return None
    return {
        "payment_method_reuse_agreement": given.get("payment_method_reuse_agreement"),
        "promotions": given.get("promotions"),
        "terms_of_service": given.get("terms_of_service"),
    }


def _details(customer: Object | None, email: str | None) -> Object | None:
    known = customer["email"] if customer else email
    if known is None:
        return None
    return {
        "address": None,
        "business_name": None,
        "email": known,
        "individual_name": None,
        "name": None,
        "phone": None,
        "tax_exempt": customer["tax_exempt"] if customer else "none",
        "tax_ids": None,
    }


def _invoice_creation(params: dict[str, Any]) -> Object:
    given = params.get("invoice_creation", {"enabled": False})
    data = given.get("invoice_data", {})
    return {
        "enabled": given["enabled"],
        "invoice_data": {
            "account_tax_ids": None,
            "custom_fields": data.get("custom_fields"),
            "description": data.get("description"),
            "footer": data.get("footer"),
            "issuer": {"type": "self"} if "issuer" in data else None,
            "metadata": merge_metadata({}, data.get("metadata") or {}),
            "rendering_options": None,
        },
    }


def check_urls(params: dict[str, Any]) -> None:
    """Raise ApiError (400) where an address to return to is missing or none."""
    if "success_url" not in params:
        raise missing_parameter("success_url")
    for name in ("success_url", "cancel_url"):
        if name in params and not params[name].startswith(("http://", "https://")):
            raise ApiError(f"Not a valid URL: {params[name]}", code="url_invalid", param=name)
