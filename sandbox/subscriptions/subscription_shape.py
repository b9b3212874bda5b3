"""A subscription and its items as they are when they begin."""

from typing import Any

from sandbox.state import Sandbox
from sandbox.store import Object


def new_subscription(
    state: Sandbox, *, customer: Object, anchor: int, trial_end: int | None, **fields: Any
) -> Object:
    """Return a subscription without items, `incomplete` or `trialing`, not yet stored."""
    now = state.now()
    return state.new(
        "subscription",
        **{
            "application": None,
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": anchor,
            "billing_cycle_anchor_config": None,
            "billing_mode": {
                "flexible": {"proration_discounts": "included"},
                "type": "flexible",
                "updated_at": now,
            },
            "billing_schedules": [],
            "billing_thresholds": None,
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": {"comment": None, "feedback": None, "reason": None},
            "collection_method": "charge_automatically",
            "customer": customer["id"],
            "customer_account": None,
            "days_until_due": None,
            "default_payment_method": None,
            "default_source": None,
            "default_tax_rates": [],
            "description": None,
            "discounts": [],
            "ended_at": None,
            "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
            "latest_invoice": None,
            "metadata": {},
            "next_pending_invoice_item_invoice": None,
            "on_behalf_of": None,
            "pause_collection": None,
            "payment_settings": {
                "payment_method_options": None,
                "payment_method_types": None,
                "save_default_payment_method": "off",
            },
            "pending_invoice_item_interval": None,
            "pending_setup_intent": None,
            "pending_update": None,
            "schedule": None,
            "start_date": now,
            "status": "trialing" if trial_end else "incomplete",
            "test_clock": customer["test_clock"],
            "transfer_data": None,
            "trial_end": trial_end,
            "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
            "trial_start": now if trial_end else None,
            "_items": [],
            "_pending": None,
            "_prorates_cancel": False,
            # What was last told of it, which the next event's previous_attributes are reckoned from.
            "_told": None,
            **fields,
        },
    )


def new_subscription_item(
    state: Sandbox,
    subscription: Object,
    *,
    price: Object,
    quantity: int | None,
    period: tuple[int, int],
    **fields: Any,
) -> Object:
    """Return an item not yet stored. `_debit` is what was charged for its period, in minor units, if anything."""
    item = {
        "id": state.new_id("subscription_item"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": state.now(),
        "current_period_end": period[1],
        "current_period_start": period[0],
        "discounts": [],
        "metadata": {},
        "price": price["id"],
        "subscription": subscription["id"],
        "tax_rates": [],
        "_debit": None,
        **fields,
    }
    if quantity is not None:
        item["quantity"] = quantity
    return item
