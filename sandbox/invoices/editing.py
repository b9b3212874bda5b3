"""Changing an invoice: a draft in most of what it says, a finalized one in little."""

from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.taxing import get_tax_rates, require_automatic_tax
from sandbox.errors import ApiError
from sandbox.invoices.totals import add_up
from sandbox.params import (
    BOOL,
    ID,
    METADATA,
    STR,
    TIME,
    EmptyOr,
    Enum,
    Int,
    ListOf,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.resources.payment_methods import get_attached
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscription_params import AUTOMATIC_TAX, DISCOUNTS, TAX_RATES

EDITABLE: Table = {
    "auto_advance": BOOL,
    "automatic_tax": AUTOMATIC_TAX,
    "automatically_finalizes_at": TIME,
    "collection_method": Enum("charge_automatically", "send_invoice"),
    "custom_fields": EmptyOr(ListOf(Obj({"name!": Str(max=40), "value!": Str(max=140)}))),
    "days_until_due": Int(min=0, max=1095),
    "default_payment_method": EmptyOr(ID),
    "default_tax_rates": TAX_RATES,
    "description": EmptyOr(Str(max=1500)),
    "discounts": DISCOUNTS,
    "due_date": TIME,
    "footer": EmptyOr(STR),
    "metadata": METADATA,
    "number": EmptyOr(Str(max=26)),
    **unsupported(
        "account_tax_ids",
        "application_fee_amount",
        "default_source",
        "effective_at",
        "issuer",
        "on_behalf_of",
        "payment_settings",
        "rendering",
        "shipping_cost",
        "shipping_details",
        "statement_descriptor",
        "transfer_data",
    ),
}


def edit_draft(state: Sandbox, invoice: Object, params: dict[str, Any], *, customer: Object) -> None:
    """Change a draft. Raises ApiError for what does not fit together."""
    for name in ("auto_advance", "automatically_finalizes_at", "custom_fields", "description", "due_date"):
        if name in params:
            invoice[name] = params[name]
    for name in ("footer", "number"):
        if name in params:
            invoice[name] = params[name]
    if "metadata" in params:
        invoice["metadata"] = merge_metadata(invoice["metadata"], params["metadata"])
    _set_collection(invoice, params)
    if params.get("default_payment_method"):
        invoice["default_payment_method"] = get_attached(
            state, params["default_payment_method"], customer=customer["id"], param="default_payment_method"
        )["id"]
    if "default_tax_rates" in params:
        invoice["default_tax_rates"] = get_tax_rates(
            state, params["default_tax_rates"] or [], param="default_tax_rates"
        )
    if "automatic_tax" in params:
        if params["automatic_tax"]["enabled"]:
            require_automatic_tax(state, customer)
        enabled = params["automatic_tax"]["enabled"]
        invoice["automatic_tax"].update(
            enabled=enabled,
            provider="stripe" if enabled else None,
            liability={"type": "self"} if enabled else None,
        )
    if "discounts" in params:
        invoice["discounts"] = discounting.new_discounts(
            state,
            params["discounts"] or [],
            customer=customer["id"],
            invoice=invoice["id"],
            subtotal=invoice["subtotal"],
            currency=invoice["currency"],
        )
    add_up(state, invoice)


def _set_collection(invoice: Object, params: dict[str, Any]) -> None:
    method = invoice["collection_method"] = params.get("collection_method", invoice["collection_method"])
    if "days_until_due" in params or "due_date" in params:
        if method != "send_invoice":
            raise ApiError(
                "You may only specify `days_until_due` or `due_date` if `collection_method=send_invoice`.",
                param="days_until_due" if "days_until_due" in params else "due_date",
            )
        invoice["_days_until_due"] = params.get("days_until_due", invoice["_days_until_due"])
    elif method == "send_invoice" and invoice["_days_until_due"] is None and invoice["due_date"] is None:
        raise ApiError(
            "If `collection_method=send_invoice` is set, you must specify `days_until_due` or `due_date`.",
            param="days_until_due",
        )


def edit_finalized(state: Sandbox, invoice: Object, params: dict[str, Any]) -> None:
    """Change what stays open to change once an invoice is finalized."""
    if "metadata" in params:
        invoice["metadata"] = merge_metadata(invoice["metadata"], params["metadata"])
    for name in ("description", "auto_advance", "footer"):
        if name in params:
            invoice[name] = params[name]
    if params.get("default_payment_method"):
        invoice["default_payment_method"] = get_attached(
            state,
            params["default_payment_method"],
            customer=invoice["customer"],
            param="default_payment_method",
        )["id"]
