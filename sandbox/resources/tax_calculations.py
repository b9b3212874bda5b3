"""Tax calculations: what tax a sale would bear, worked out without making it."""

from typing import Any

from sandbox.catalog.currencies import check_currency
from sandbox.catalog.identifying import TYPES, check_tax_id
from sandbox.catalog.tax_places import STATE_NAMES
from sandbox.catalog.taxing import (
    SETTINGS,
    Verdict,
    behavior,
    location,
    require_automatic_tax,
    tax_ids_of,
    taxes_on,
    usable,
    verdict,
)
from sandbox.errors import ApiError
from sandbox.params import (
    CURRENCY,
    ID,
    NEW_METADATA,
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
from sandbox.render import included
from sandbox.resources.tax_codes import check_tax_code
from sandbox.routing import Call, get, lists, post
from sandbox.state import Sandbox
from sandbox.store import Object

KEPT = 90 * 86400
PARTS = ("city", "country", "line1", "line2", "postal_code", "state")
PLACE = Obj(
    {
        **{part: EmptyOr(STR) for part in PARTS if part != "country"},
        "country!": Str(max=2, pattern="[A-Za-z]{2}"),
    }
)
LINE: Table = {
    "amount!": Int(),
    "metadata": NEW_METADATA,
    "product": ID,
    "quantity": Int(min=1),
    "reference": Str(max=500),
    "tax_behavior": Enum("exclusive", "inclusive"),
    "tax_code": STR,
}
EXEMPTIONS = {"customer_exempt": "exempt", "reverse_charge": "reverse", "none": "none"}
OVERRIDES = {exempt: name for name, exempt in EXEMPTIONS.items()}


def _lines_of(state: Sandbox, calculation: Object) -> list[Object]:
    return [
        each for each in state.every("tax.calculation_line_item") if each["_calculation"] == calculation["id"]
    ]


def _page_of(state: Sandbox, calculation: Object) -> Object:
    lines = [state.render(each) for each in _lines_of(state, calculation)]
    url = f"/v1/tax/calculations/{calculation['id']}/line_items"
    return {"object": "list", "data": lines[:10], "has_more": len(lines) > 10, "url": url}


included("tax.calculation", "line_items", _page_of)


@post(
    "/v1/tax/calculations",
    {
        "currency!": CURRENCY,
        "customer": ID,
        "customer_details": Obj(
            {
                "address": PLACE,
                "address_source": Enum("billing", "shipping"),
                "tax_ids": ListOf(Obj({"type!": Enum(*TYPES), "value!": STR})),
                "taxability_override": Enum("customer_exempt", "none", "reverse_charge"),
                **unsupported("ip_address"),
            }
        ),
        "line_items!": ListOf(Obj(LINE)),
        "tax_date": TIME,
        **unsupported("ship_from_details", "shipping_cost"),
    },
)
def create(call: Call) -> Object:
    state, params = call.state, call.params
    require_automatic_tax(state, None)
    currency = check_currency(params["currency"])
    details = _customer_details(state, params)
    address = details["address"]
    if address is None or not usable(address):
        raise ApiError(
            "The customer's location isn't recognized. Set a valid customer address in order to "
            "automatically calculate tax.",
            code="customer_tax_location_invalid",
            param="customer" if "customer" in params else "customer_details[address]",
        )
    calculation = state.new("tax.calculation", customer=params.get("customer"))
    del calculation["created"]
    references: set[str] = set()
    breakdown: dict[tuple[str, bool, str], Object] = {}
    lines = []
    for index, given in enumerate(params["line_items"]):
        line, part = _line(
            state,
            given,
            details=details,
            currency=currency,
            calculation=calculation["id"],
            index=index,
        )
        if line["reference"] in references:
            raise ApiError(
                f"Each line item needs a `reference` of its own: {line['reference']} is there twice.",
                param=f"line_items[{index}][reference]",
            )
        references.add(line["reference"])
        lines.append(line)
        key = (part["tax_rate_details"]["percentage_decimal"], part["inclusive"], part["taxability_reason"])
        total = breakdown.setdefault(key, {**part, "amount": 0, "taxable_amount": 0})
        total["amount"] += part["amount"]
        total["taxable_amount"] += part["taxable_amount"]
    for line in lines:
        state.put(line)
    exclusive = sum(line["amount_tax"] for line in lines if line["tax_behavior"] == "exclusive")
    calculation.update(
        amount_total=sum(line["amount"] for line in lines) + exclusive,
        currency=currency,
        customer_details=details,
        expires_at=state.now() + KEPT,
        ship_from_details=None,
        shipping_cost=None,
        tax_amount_exclusive=exclusive,
        tax_amount_inclusive=sum(line["amount_tax"] for line in lines if line["tax_behavior"] == "inclusive"),
        tax_breakdown=list(breakdown.values()),
        tax_date=params.get("tax_date", state.now()),
    )
    return state.put(calculation)


def _customer_details(state: Sandbox, params: dict[str, Any]) -> Object:
    given = params.get("customer_details", {})
    if "customer" not in params:
        address = given.get("address")
        tax_ids = [
            {
                "type": each["type"],
                "value": check_tax_id(
                    each["type"], each["value"], param=f"customer_details[tax_ids][{index}][value]"
                ),
            }
            for index, each in enumerate(given.get("tax_ids", []))
        ]
        return {
            "address": None if address is None else _address(address),
            "address_source": None if address is None else given.get("address_source", "shipping"),
            "ip_address": None,
            "tax_ids": tax_ids,
            "taxability_override": given.get("taxability_override", "none"),
        }
    if "address" in given or "tax_ids" in given:
        raise ApiError(
            "You may only specify one of these parameters: customer, customer_details[address].",
            param="customer_details",
        )
    customer = state.get_customer(params["customer"])
    address = location(customer["shipping"], customer["address"])
    shipped = location(customer["shipping"], None) is not None
    return {
        "address": None if address is None else _address(address),
        "address_source": None if address is None else "shipping" if shipped else "billing",
        "ip_address": None,
        "tax_ids": tax_ids_of(state, customer["id"]),
        "taxability_override": given.get("taxability_override", OVERRIDES[customer["tax_exempt"] or "none"]),
    }


def _address(given: Object) -> Object:
    return {**{part: given.get(part) for part in PARTS}, "country": given["country"].upper()}


def _line(
    state: Sandbox,
    given: dict[str, Any],
    *,
    details: Object,
    currency: str,
    calculation: str,
    index: int,
) -> tuple[Object, Object]:
    """Return a line item with its tax, not yet stored, and its part of the calculation's breakdown."""
    param = f"line_items[{index}]"
    product = None
    if "product" in given:
        product = state.get("product", given["product"], param=f"{param}[product]", status=400)
    if "tax_code" in given:
        check_tax_code(given["tax_code"], param=f"{param}[tax_code]")
    settings = state.get(SETTINGS, SETTINGS)
    code = given.get("tax_code") or (product or {}).get("tax_code") or settings["defaults"]["tax_code"]
    found = verdict(
        state,
        details["address"],
        tax_code=code,
        exempt=EXEMPTIONS[details["taxability_override"]],
        tax_ids=details["tax_ids"],
    )
    how = behavior(given.get("tax_behavior"), settings, currency)
    (tax,) = taxes_on(given["amount"], [("", found.percentage, how == "inclusive")], reason=found.reason)
    taxable = 0 if found.reason == "not_collecting" else tax["taxable_amount"]
    line = {
        "id": state.new_id("tax.calculation_line_item"),
        "object": "tax.calculation_line_item",
        "amount": given["amount"],
        "amount_tax": tax["amount"],
        "livemode": False,
        "metadata": merge_metadata({}, given.get("metadata") or {}),
        "product": given.get("product"),
        "quantity": given.get("quantity", 1),
        "reference": given.get("reference", f"L{index + 1}"),
        "tax_behavior": how,
        "tax_breakdown": [_line_part(found, amount=tax["amount"], taxable=taxable)],
        "tax_code": code,
        "_calculation": calculation,
    }
    part = {
        "amount": tax["amount"],
        "inclusive": how == "inclusive",
        "tax_rate_details": {
            "country": found.country,
            "flat_amount": None,
            "percentage_decimal": str(found.percentage),
            "rate_type": "percentage" if found.percentage else None,
            "state": found.state,
            "tax_type": found.type if found.percentage else None,
        },
        "taxability_reason": found.reason,
        "taxable_amount": taxable,
    }
    return line, part


def _line_part(found: Verdict, *, amount: int, taxable: int) -> Object:
    details = {
        "display_name": "Sales tax" if found.type == "sales_tax" else "VAT",
        "percentage_decimal": str(found.percentage),
        "tax_type": found.type,
    }
    return {
        "amount": amount,
        "jurisdiction": {
            "country": found.country,
            "display_name": STATE_NAMES.get(found.state or "", found.state or found.country),
            "level": "state" if found.state else "country",
            "state": found.state,
        },
        "sourcing": "destination",
        "tax_rate_details": details if found.percentage else None,
        "taxability_reason": found.reason,
        "taxable_amount": taxable,
    }


def _calculation(call: Call) -> Object:
    return call.state.get("tax.calculation", call.args["id"], noun="tax calculation", param="calculation")


@get("/v1/tax/calculations/<id>")
def retrieve(call: Call) -> Object:
    return _calculation(call)


@lists("/v1/tax/calculations/<id>/line_items")
def line_items(call: Call) -> Object:
    calculation = _calculation(call)
    return call.page(_lines_of(call.state, calculation))
