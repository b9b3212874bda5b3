"""Invoice items over the API: charges and credits for the next invoice, or for a draft."""

import decimal
from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.amounts import amount_in, line_amount, rounded
from sandbox.catalog.currencies import check_customer_currency
from sandbox.catalog.pricing import build_price, get_price
from sandbox.catalog.taxing import get_tax_rates, shows_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.invoice_items import lines_of, new_item
from sandbox.invoices.totals import add_up
from sandbox.params import (
    BOOL,
    CURRENCY,
    DEC,
    ID,
    INT,
    METADATA,
    RANGE,
    TIME,
    EmptyOr,
    Int,
    Obj,
    Str,
    Table,
    merge_metadata,
    unsupported,
)
from sandbox.render import expandable
from sandbox.routing import Call, delete, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscription_params import DISCOUNTS, ONCE_PRICE, TAX_RATES

expandable(
    "invoiceitem",
    {
        "customer": "customer",
        "discounts": "discount",
        "invoice": "invoice",
        "parent.subscription_details.subscription": "subscription",
        "pricing.price_details.price": "price",
        "test_clock": "test_helpers.test_clock",
    },
)
shows_tax_rates("invoiceitem", "tax_rates")

CHANGEABLE: Table = {
    "amount": INT,
    "description": EmptyOr(Str(max=5000)),
    "discountable": BOOL,
    "discounts": DISCOUNTS,
    "metadata": METADATA,
    "period": Obj({"start!": TIME, "end!": TIME}),
    "price_data": ONCE_PRICE,
    "pricing": Obj({"price": ID}),
    "quantity": Int(min=0, max=999_999_999),
    "tax_rates": TAX_RATES,
    "unit_amount_decimal": DEC,
    **unsupported("quantity_decimal", "tax_behavior", "tax_code"),
}


@post(
    "/v1/invoiceitems",
    {
        **CHANGEABLE,
        "currency": CURRENCY,
        "customer": ID,
        "invoice": ID,
        "subscription": ID,
        **unsupported("customer_account"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    if "customer" not in params:
        raise missing_parameter("customer")
    customer = state.get_customer(params["customer"])
    invoice = _draft(state, params["invoice"], customer=customer) if "invoice" in params else None
    subscription = None
    if "subscription" in params:
        subscription = state.get("subscription", params["subscription"], param="subscription", status=400)
        if subscription["customer"] != customer["id"]:
            raise ApiError("The subscription belongs to another customer.", param="subscription")
    amount, currency, quantity, price = _amount(state, params, customer=customer)
    check_customer_currency(state, customer, currency)
    period = params.get("period", {"start": state.now(), "end": state.now()})
    product = state.find("product", price["product"]) if price else None
    item = new_item(
        state,
        customer=customer,
        amount=amount,
        currency=currency,
        period=(period["start"], period["end"]),
        description=params.get("description") or (product or {}).get("name"),
        quantity=quantity,
        price=price,
        subscription=subscription["id"] if subscription else None,
        metadata=merge_metadata({}, params.get("metadata") or {}),
    )
    _apply(state, item, params, customer=customer)
    if invoice is not None:
        if invoice["currency"] != currency:
            raise ApiError(
                f"The currency of the invoice item ({currency}) differs from the invoice's "
                f"({invoice['currency']}).",
                param="currency",
            )
        item["invoice"] = invoice["id"]
    state.create(item, event="invoiceitem.created")
    if invoice is not None:
        _rewrite_lines(state, invoice)
    return item


def _draft(state: Sandbox, identifier: str, *, customer: Object) -> Object:
    invoice = state.get("invoice", identifier, param="invoice", status=400)
    if invoice["customer"] != customer["id"]:
        raise ApiError("The invoice belongs to another customer.", param="invoice")
    if invoice["status"] != "draft":
        raise ApiError(
            "This invoice is no longer editable: items can be added to drafts only.",
            code="invoice_not_editable",
            param="invoice",
        )
    return invoice


def _amount(
    state: Sandbox, params: dict[str, Any], *, customer: Object
) -> tuple[int, str, int, Object | None]:
    """Return (amount, currency, quantity, price). Raises ApiError unless exactly one way was used."""
    ways = [name for name in ("amount", "pricing", "price_data", "unit_amount_decimal") if name in params]
    if len(ways) != 1:
        raise ApiError(
            "You must specify exactly one of these parameters: amount, pricing, price_data, "
            "unit_amount_decimal.",
            param=ways[-1] if ways else "amount",
        )
    quantity = params.get("quantity", 1)
    price: Object | None = None
    if "pricing" in params:
        price = get_price(state, params["pricing"].get("price", ""), param="pricing[price]")
    elif "price_data" in params:
        data = params["price_data"]
        product = state.get("product", data["product"], param="price_data[product]", status=400)
        price = state.create(build_price(state, data, product=product["id"]), event="price.created")
    if price is not None:
        if price["type"] != "one_time":
            raise ApiError(
                "The price specified is set to `type=recurring` but this field only accepts prices with "
                "`type=one_time`.",
                param="pricing[price]",
            )
        currency = str(params.get("currency") or price["currency"]).lower()
        if amount_in(price, currency) is None:
            raise ApiError(
                f"The price specified is not sold in {currency}, the currency of the invoice item.",
                param="price_data[currency]" if "price_data" in params else "pricing[price]",
            )
        return line_amount(price, quantity, currency=currency), currency, quantity, price
    currency = str(params.get("currency") or customer["currency"] or "usd").lower()
    if "amount" in params:
        if "quantity" in params:
            raise ApiError(
                "You may only specify one of these parameters: amount, quantity.", param="quantity"
            )
        return params["amount"], currency, 1, None
    exact = decimal.Decimal(params["unit_amount_decimal"]) * quantity
    return rounded(exact), currency, quantity, None


def _apply(state: Sandbox, item: Object, params: dict[str, Any], *, customer: Object) -> None:
    if "discountable" in params:
        item["discountable"] = params["discountable"]
    if "tax_rates" in params:
        item["tax_rates"] = get_tax_rates(state, params["tax_rates"] or [], param="tax_rates")
    if "discounts" in params:
        item["discounts"] = discounting.new_discounts(
            state,
            params["discounts"] or [],
            customer=customer["id"],
            invoice_item=item["id"],
            currency=item["currency"],
        )


def _rewrite_lines(state: Sandbox, invoice: Object) -> None:
    """Let a draft show the items it holds now."""
    kept = [
        line
        for line in invoice["lines"]["data"]
        if (line["parent"].get("invoice_item_details") or {}).get("invoice_item") is None
    ]
    own = [
        line
        for each in state.every("invoiceitem")
        if each.get("invoice") == invoice["id"] and each["_line"] is None and each["_usage_of"] is None
        for line in lines_of(state, state.get("invoiceitem", each["id"]))
    ]
    before = state.render(invoice)
    invoice["lines"]["data"] = kept + own
    add_up(state, invoice)
    state.update(invoice, before=before, event="invoice.updated")


def _get(call: Call) -> Object:
    item = call.state.get("invoiceitem", call.args["id"])
    if item.get("deleted"):
        raise ApiError(
            f"No such invoiceitem: '{item['id']}'", status=404, code="resource_missing", param="id"
        )
    return item


@get("/v1/invoiceitems/<id>")
def retrieve(call: Call) -> Object:
    return _get(call)


def _editable(call: Call) -> tuple[Object, Object | None]:
    """Return the item and the draft it is on, if any. Raises ApiError for one on a finalized invoice."""
    item = _get(call)
    invoice = call.state.find("invoice", item["invoice"]) if item["invoice"] else None
    if invoice is not None and invoice["status"] != "draft":
        raise ApiError(
            "This invoice item is attached to an invoice that is no longer editable.",
            code="invoice_not_editable",
        )
    return item, invoice


@post("/v1/invoiceitems/<id>", CHANGEABLE)
def update(call: Call) -> Object:
    state, params = call.state, call.params
    item, invoice = _editable(call)
    customer = state.get("customer", item["customer"])
    if {"amount", "pricing", "price_data", "unit_amount_decimal"} & set(params):
        if item["proration"]:
            raise ApiError("The amount of a proration cannot be changed.", param="amount")
        amount, _, quantity, price = _amount(
            state, {"currency": item["currency"], **params}, customer=customer
        )
        item.update(
            amount=amount,
            net_amount=amount,
            quantity=quantity,
            quantity_decimal=str(quantity),
            _price=price["id"] if price else None,
        )
    if "description" in params:
        item["description"] = params["description"]
    if "period" in params:
        item["period"] = dict(params["period"])
    if "metadata" in params:
        item["metadata"] = merge_metadata(item["metadata"], params["metadata"])
    _apply(state, item, params, customer=customer)
    state.put(item)
    if invoice is not None:
        _rewrite_lines(state, invoice)
    return item


@delete("/v1/invoiceitems/<id>")
def remove(call: Call) -> Object:
    state = call.state
    item, invoice = _editable(call)
    state.emit("invoiceitem.deleted", item)
    stub = {"id": item["id"], "object": "invoiceitem", "deleted": True}
    state.put(stub)
    if invoice is not None:
        invoice["lines"]["data"] = [
            line
            for line in invoice["lines"]["data"]
            if (line["parent"].get("subscription_item_details") or {}).get("invoice_item") != item["id"]
        ]
        _rewrite_lines(state, invoice)
    return stub


@lists(
    "/v1/invoiceitems",
    {"created": RANGE, "customer": ID, "invoice": ID, "pending": BOOL, **unsupported("customer_account")},
)
def index(call: Call) -> Object:
    params = call.params
    found = [
        {**each, "created": each["date"]}
        for each in call.state.newest("invoiceitem")
        if not each.get("deleted")
        and all(each[name] == params[name] for name in ("customer", "invoice") if name in params)
        and ("pending" not in params or (each["invoice"] is None) is params["pending"])
    ]
    page = call.page(found)
    for each in page["data"]:
        del each["created"]
    return page
