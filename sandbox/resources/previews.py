"""POST /v1/invoices/create_preview."""

from typing import Any

from sandbox.catalog.taxing import get_tax_rates, require_automatic_tax
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.invoice_items import new_item
from sandbox.invoices.invoicing import draft_invoice
from sandbox.invoices.previewing import preview_change, preview_next, replace_discounts, shown
from sandbox.params import (
    BOOL,
    CURRENCY,
    ID,
    INT,
    METADATA,
    TIME,
    Choice,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    OneOf,
    Str,
    unsupported,
)
from sandbox.routing import Call, post
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.asking import read_wanted, redeem_for_items, trial_end_of
from sandbox.subscriptions.subscribing import ENDED, begin, build, first_lines
from sandbox.subscriptions.subscription_params import (
    AUTOMATIC_TAX,
    CANCEL_AT,
    CHANGED_ITEM,
    DISCOUNTS,
    FLEXIBLE,
    PRORATION,
    TAX_RATES,
)

DETAILS = Obj(
    {
        "billing_cycle_anchor": OneOf(Enum("now", "unchanged"), TIME),
        "billing_mode": FLEXIBLE,
        "cancel_at": CANCEL_AT,
        "cancel_at_period_end": BOOL,
        "cancel_now": BOOL,
        "default_tax_rates": TAX_RATES,
        "items": ListOf(CHANGED_ITEM),
        "proration_behavior": PRORATION,
        "proration_date": TIME,
        "trial_end": OneOf(Enum("now"), TIME),
        **unsupported("billing_schedules", "resume_at", "start_date"),
    }
)
ADDED = Obj(
    {
        "amount": INT,
        "currency": CURRENCY,
        "description": Str(max=5000),
        "discountable": BOOL,
        "metadata": METADATA,
        "period": Obj({"start!": TIME, "end!": TIME}),
        "quantity": Int(min=0),
        "tax_rates": TAX_RATES,
        **unsupported(
            "discounts",
            "invoiceitem",
            "price",
            "price_data",
            "quantity_decimal",
            "tax_behavior",
            "tax_code",
            "unit_amount",
            "unit_amount_decimal",
        ),
    }
)


@post(
    "/v1/invoices/create_preview",
    {
        "automatic_tax": AUTOMATIC_TAX,
        "currency": CURRENCY,
        "customer": ID,
        "discounts": EmptyOr(DISCOUNTS),
        "invoice_items": ListOf(ADDED),
        "preview_mode": Choice("next", "recurring"),
        "schedule": ID,
        "subscription": ID,
        "subscription_details": DETAILS,
        **unsupported("customer_account", "customer_details", "issuer", "on_behalf_of", "schedule_details"),
    },
)
def create_preview(call: Call) -> Object:
    """Show the next invoice, or the one a change would make, and leave everything as it was."""
    state, params = call.state, call.params
    with state.scratch():
        subscription = _subscription(state, params)
        if subscription is not None:
            customer = state.get("customer", subscription["customer"])
            _set(state, subscription, params, customer=customer)
            details = params.get("subscription_details", {})
            if isinstance(details.get("billing_cycle_anchor"), int):
                raise ApiError(
                    "billing_cycle_anchor must be either `now` or `unchanged` for an existing subscription.",
                    param="subscription_details[billing_cycle_anchor]",
                )
            return state.render(preview_change(state, subscription, details))
        if "customer" not in params:
            raise missing_parameter("customer")
        customer = state.get_customer(params["customer"])
        if params.get("subscription_details", {}).get("items"):
            return state.render(_preview_new(state, params, customer=customer))
        return state.render(_preview_items(state, params, customer=customer))


def _subscription(state: Sandbox, params: dict[str, Any]) -> Object | None:
    identifier = params.get("subscription")
    if "schedule" in params:
        if identifier is not None:
            raise ApiError("You may only specify one of these parameters: schedule, subscription.")
        schedule = state.get("subscription_schedule", params["schedule"], param="schedule", status=400)
        identifier = schedule["subscription"]
        if identifier is None:
            raise ApiError(
                "The sandbox previews schedules that have a subscription only (Stripe previews others too).",
                code="sandbox_unsupported",
                param="schedule",
            )
    if identifier is None:
        return None
    subscription = state.get("subscription", identifier, param="subscription")
    if "customer" in params and subscription["customer"] != params["customer"]:
        raise ApiError("The subscription belongs to another customer.", param="subscription")
    if subscription["status"] in ENDED:
        raise ApiError(
            f"No upcoming invoices for customer: '{subscription['customer']}'",
            status=404,
            code="invoice_upcoming_none",
        )
    return subscription


def _set(state: Sandbox, subscription: Object, params: dict[str, Any], *, customer: Object) -> None:
    """Set on the subscription what the preview is to assume, and add the items it is to hold."""
    if "discounts" in params:
        replace_discounts(state, subscription, params["discounts"])
    if "automatic_tax" in params:
        if params["automatic_tax"]["enabled"]:
            require_automatic_tax(state, customer)
        subscription["automatic_tax"] = {
            "disabled_reason": None,
            "enabled": params["automatic_tax"]["enabled"],
            "liability": {"type": "self"} if params["automatic_tax"]["enabled"] else None,
        }
    details = params.get("subscription_details", {})
    if "default_tax_rates" in details:
        subscription["default_tax_rates"] = get_tax_rates(
            state, details["default_tax_rates"] or [], param="subscription_details[default_tax_rates]"
        )
    state.put(subscription)
    _add_items(state, params, customer=customer, subscription=subscription)


def _add_items(
    state: Sandbox, params: dict[str, Any], *, customer: Object, subscription: Object | None
) -> None:
    currency = params.get("currency") or (subscription or {}).get("currency") or customer["currency"] or "usd"
    for index, each in enumerate(params.get("invoice_items", [])):
        if "amount" not in each:
            raise missing_parameter(f"invoice_items[{index}][amount]")
        period = each.get("period", {"start": state.now(), "end": state.now()})
        state.put(
            new_item(
                state,
                customer=customer,
                amount=each["amount"],
                currency=each.get("currency", currency).lower(),
                period=(period["start"], period["end"]),
                description=each.get("description"),
                quantity=each.get("quantity", 1),
                subscription=subscription["id"] if subscription else None,
                discountable=each.get("discountable", each["amount"] >= 0),
                tax_rates=get_tax_rates(
                    state, each.get("tax_rates") or [], param=f"invoice_items[{index}][tax_rates]"
                ),
            )
        )


def _preview_new(state: Sandbox, params: dict[str, Any], *, customer: Object) -> Object:
    """Return the first invoice of a subscription that is not there yet."""
    details = params["subscription_details"]
    wanted = [
        read_wanted(state, each, where=f"subscription_details[items][{index}]")
        for index, each in enumerate(details["items"])
    ]
    anchor = details.get("billing_cycle_anchor")
    subscription = build(
        state,
        customer=customer,
        wanted=wanted,
        trial_end=trial_end_of(state, details),
        billing_cycle_anchor=anchor if isinstance(anchor, int) else None,
        currency=(params.get("currency") or wanted[0].price["currency"]).lower(),
    )
    _set(state, subscription, params, customer=customer)
    redeem_for_items(state, subscription, wanted)
    lines = first_lines(state, subscription, prorate=details.get("proration_behavior") != "none")
    if not lines:
        subscription["status"] = "active"
        begin(state, subscription)
        return preview_next(state, subscription)
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_create",
        period=(state.now(), state.now()),
    )
    return shown(state, invoice, at=state.now())


def _preview_items(state: Sandbox, params: dict[str, Any], *, customer: Object) -> Object:
    """Return the next invoice of the customer's first live subscription, else of the items that wait."""
    for each in state.every("subscription"):
        if each["customer"] == customer["id"] and each["status"] not in (*ENDED, "incomplete", "paused"):
            subscription = state.get("subscription", each["id"])
            _set(state, subscription, params, customer=customer)
            return preview_change(state, subscription, params.get("subscription_details", {}))
    _add_items(state, params, customer=customer, subscription=None)
    invoice = draft_invoice(
        state,
        customer=customer,
        lines=[],
        reason="manual",
        period=(state.now(), state.now()),
        currency=params["currency"].lower() if "currency" in params else None,
    )
    if not invoice["lines"]["data"]:
        raise ApiError(
            f"No upcoming invoices for customer: '{customer['id']}'", status=404, code="invoice_upcoming_none"
        )
    return shown(state, invoice, at=state.now())
