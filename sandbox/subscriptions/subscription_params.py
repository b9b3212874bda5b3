"""The parameters of subscriptions, their items and their previews."""

from sandbox.catalog.pricing import INTERVAL, TAX_BEHAVIOR
from sandbox.params import (
    BOOL,
    CURRENCY,
    DEC,
    ID,
    INT,
    METADATA,
    NEW_METADATA,
    STR,
    TIME,
    Choice,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    OneOf,
    Str,
    Table,
    unsupported,
)

FEEDBACK = Enum(
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
CANCELLATION: Table = {"cancellation_details": Obj({"comment": EmptyOr(STR), "feedback": EmptyOr(FEEDBACK)})}
STATUSES = (
    "active",
    "canceled",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
QUANTITY = Int(min=0, max=999_999)
PRORATION = Enum("always_invoice", "create_prorations", "none")
BEHAVIOURS = ("allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete")
DISCOUNTS = EmptyOr(ListOf(Obj({"coupon": ID, "discount": ID, "promotion_code": ID})))
# A discount that ends on a date of its own is refused: `discount_end`, …
TAX_RATES = EmptyOr(ListOf(ID))
AUTOMATIC_TAX = Obj({"enabled!": BOOL, **unsupported("liability")})
RECURRING_PRICE = Obj(
    {
        "currency!": CURRENCY,
        "product!": ID,
        "recurring!": Obj({"interval!": INTERVAL, "interval_count": Int(min=1)}),
        "tax_behavior": TAX_BEHAVIOR,
        "unit_amount": Int(min=0),
        "unit_amount_decimal": DEC,
    }
)
ONCE_PRICE = Obj(
    {
        "currency!": CURRENCY,
        "product!": ID,
        "tax_behavior": TAX_BEHAVIOR,
        "unit_amount": INT,
        "unit_amount_decimal": DEC,
    }
)
NEW_ITEM = Obj(
    {
        "discounts": DISCOUNTS,
        "metadata": NEW_METADATA,
        "price": ID,
        "price_data": RECURRING_PRICE,
        "quantity": QUANTITY,
        "tax_rates": TAX_RATES,
        **unsupported("billing_thresholds"),
    }
)
CHANGED_ITEM = Obj(
    {
        "deleted": BOOL,
        "discounts": DISCOUNTS,
        "id": ID,
        "metadata": METADATA,
        "price": ID,
        "price_data": RECURRING_PRICE,
        "quantity": QUANTITY,
        "tax_rates": TAX_RATES,
        **unsupported("billing_thresholds", "clear_usage"),
    }
)
ADDED_INVOICE_ITEM = Obj(
    {
        "price": ID,
        "price_data": ONCE_PRICE,
        "quantity": QUANTITY,
        **unsupported("discountable", "discounts", "metadata", "period", "tax_rates"),
    }
)
TRIAL_SETTINGS = Obj(
    {"end_behavior!": Obj({"missing_payment_method!": Enum("cancel", "create_invoice", "pause")})}
)
FLEXIBLE = Obj(
    {
        "type!": Choice("flexible", "classic"),
        "flexible": Obj({"proration_discounts": Choice("included", "itemized")}),
    }
)
CANCEL_AT = EmptyOr(OneOf(Enum("max_period_end", "min_period_end"), TIME))
# What creating and updating have in common.
SHARED: Table = {
    "add_invoice_items": ListOf(ADDED_INVOICE_ITEM),
    "automatic_tax": AUTOMATIC_TAX,
    "cancel_at": CANCEL_AT,
    "cancel_at_period_end": BOOL,
    "collection_method": Enum("charge_automatically", "send_invoice"),
    "days_until_due": Int(min=1, max=1095),
    "default_payment_method": EmptyOr(ID),
    "default_tax_rates": TAX_RATES,
    "description": EmptyOr(Str(max=500)),
    "discounts": DISCOUNTS,
    "metadata": METADATA,
    "off_session": BOOL,
    "payment_settings": Obj(
        {
            "save_default_payment_method": Enum("off", "on_subscription"),
            "payment_method_types": EmptyOr(ListOf(Enum("card"))),
            **unsupported("payment_method_options"),
        }
    ),
    "proration_behavior": PRORATION,
    "trial_end": OneOf(Enum("now"), TIME),
    "trial_settings": TRIAL_SETTINGS,
    **unsupported(
        "application_fee_percent",
        "billing_schedules",
        "billing_thresholds",
        "default_source",
        "invoice_settings",
        "on_behalf_of",
        "pending_invoice_item_interval",
        "transfer_data",
        "trial_from_plan",
    ),
}
