"""What a Checkout session is created with."""

from sandbox.catalog.pricing import INLINE_PRICE
from sandbox.params import (
    ADDRESS,
    BOOL,
    CURRENCY,
    ID,
    NEW_METADATA,
    STR,
    TIME,
    Choice,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    Table,
    unsupported,
)

# A price made in passing here has neither metadata nor other currencies.
INLINE = {
    name: kind
    for name, kind in INLINE_PRICE.items()
    if name not in ("metadata", "currency_options", "custom_unit_amount")
}
ENABLED = Obj({"enabled!": BOOL})
ONLY_OFF = Obj({"enabled!": Enum("false")})
ISSUER = Obj({"type!": Choice("self", "account"), **unsupported("account")})
MESSAGE = EmptyOr(Obj({"message!": Str(max=1200)}))
REDISPLAY = Enum("always", "limited", "unspecified")

LINE = Obj(
    {
        "adjustable_quantity": Obj(
            {"enabled!": BOOL, "maximum": Int(min=1, max=999_999), "minimum": Int(min=0, max=999_998)}
        ),
        "metadata": NEW_METADATA,
        "price": ID,
        "price_data": Obj(
            {
                **INLINE,
                "product": ID,
                "product_data": Obj(
                    {
                        "name!": STR,
                        "description": Str(max=40000),
                        "images": ListOf(STR),
                        "metadata": NEW_METADATA,
                        "tax_code": STR,
                        "unit_label": Str(max=12),
                    }
                ),
            }
        ),
        "quantity": Int(min=0, max=999_999),
        "tax_rates": ListOf(ID),
        **unsupported("dynamic_tax_rates"),
    }
)
SUBSCRIPTION_DATA = Obj(
    {
        "billing_cycle_anchor": TIME,
        "billing_mode": Obj(
            {
                "type!": Choice("flexible", "classic"),
                "flexible": Obj({"proration_discounts": Enum("included", "itemized")}),
            }
        ),
        "default_tax_rates": ListOf(ID),
        "description": Str(max=500),
        "invoice_settings": Obj({"issuer": ISSUER}),
        "metadata": NEW_METADATA,
        "proration_behavior": Enum("create_prorations", "none"),
        "trial_end": TIME,
        "trial_period_days": Int(min=1, max=730),
        "trial_settings": Obj(
            {"end_behavior!": Obj({"missing_payment_method!": Enum("cancel", "create_invoice", "pause")})}
        ),
        **unsupported(
            "application_fee_percent", "on_behalf_of", "pending_invoice_item_interval", "transfer_data"
        ),
    }
)
PAYMENT_INTENT_DATA = Obj(
    {
        "capture_method": Enum("automatic", "automatic_async", "manual"),
        "description": Str(max=1000),
        "metadata": NEW_METADATA,
        "receipt_email": STR,
        "setup_future_usage": Enum("off_session", "on_session"),
        "shipping": Obj(
            {
                "address!": ADDRESS,
                "carrier": STR,
                "name!": STR,
                "phone": STR,
                "tracking_number": STR,
            }
        ),
        "statement_descriptor": Str(max=22),
        "statement_descriptor_suffix": Str(max=22),
        "transfer_group": STR,
        **unsupported("application_fee_amount", "on_behalf_of", "transfer_data"),
    }
)
INVOICE_CREATION = Obj(
    {
        "enabled!": BOOL,
        "invoice_data": Obj(
            {
                "custom_fields": EmptyOr(
                    ListOf(Obj({"name!": Str(max=40), "value!": Str(max=140)})),
                ),
                "description": Str(max=1500),
                "footer": STR,
                "issuer": ISSUER,
                "metadata": NEW_METADATA,
                **unsupported("account_tax_ids", "rendering_options"),
            }
        ),
    }
)
CREATE: Table = {
    "adaptive_pricing": ONLY_OFF,
    "allow_promotion_codes": BOOL,
    "automatic_tax": Obj({"enabled!": BOOL, "liability": ISSUER}),
    "billing_address_collection": Enum("auto", "required"),
    "cancel_url": STR,
    "client_reference_id": Str(max=200),
    "consent_collection": Obj(
        {
            "payment_method_reuse_agreement": Obj({"position!": Enum("auto", "hidden")}),
            "promotions": Enum("auto", "none"),
            "terms_of_service": Enum("none", "required"),
        }
    ),
    "currency": CURRENCY,
    "custom_text": Obj(
        {
            "after_submit": MESSAGE,
            "submit": MESSAGE,
            "terms_of_service_acceptance": MESSAGE,
            **unsupported("shipping_address"),
        }
    ),
    "customer": ID,
    "customer_creation": Enum("always", "if_required"),
    "customer_email": Str(max=512),
    "customer_update": Obj({name: Enum("auto", "never") for name in ("address", "name", "shipping")}),
    "discounts": ListOf(Obj({"coupon": ID, "promotion_code": ID})),
    "expires_at": TIME,
    "integration_identifier": Str(max=200),
    "invoice_creation": INVOICE_CREATION,
    "line_items": ListOf(LINE),
    "locale": STR,
    "metadata": NEW_METADATA,
    "mode": Enum("payment", "setup", "subscription"),
    "origin_context": Enum("mobile_app", "web"),
    "payment_intent_data": PAYMENT_INTENT_DATA,
    "payment_method_collection": Enum("always", "if_required"),
    "payment_method_data": Obj({"allow_redisplay": REDISPLAY}),
    "payment_method_types": ListOf(Enum("card")),
    "phone_number_collection": ENABLED,
    "saved_payment_method_options": Obj(
        {
            "allow_redisplay_filters": ListOf(REDISPLAY),
            "payment_method_save": Enum("disabled", "enabled"),
            **unsupported("payment_method_remove"),
        }
    ),
    "setup_intent_data": Obj(
        {"description": Str(max=1000), "metadata": NEW_METADATA, **unsupported("on_behalf_of")}
    ),
    "submit_type": Enum("auto", "book", "donate", "pay", "subscribe"),
    "subscription_data": SUBSCRIPTION_DATA,
    "success_url": STR,
    "tax_id_collection": Obj({"enabled!": BOOL, "required": Enum("if_supported", "never")}),
    "ui_mode": Choice("hosted_page", "embedded_page", "elements"),
    **unsupported(
        "after_expiration",
        "branding_settings",
        "custom_fields",
        "customer_account",
        "excluded_payment_method_types",
        "managed_payments",
        "name_collection",
        "optional_items",
        "payment_method_configuration",
        "payment_method_options",
        "permissions",
        "redirect_on_completion",
        "return_url",
        "shipping_address_collection",
        "shipping_options",
        "wallet_options",
    ),
}
