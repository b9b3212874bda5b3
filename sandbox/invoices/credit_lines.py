"""What the lines of a credit note come to: amounts, and their shares of discounts and taxes."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from sandbox.catalog.amounts import decimal_text, money_text, rounded, whole_minor
from sandbox.catalog.taxing import taxes_on
from sandbox.errors import ApiError, missing_parameter, missing_resource
from sandbox.state import Sandbox
from sandbox.store import Object

Given = dict[str, Any]


def notes_of(state: Sandbox, invoice: Object) -> list[Object]:
    """Return the credit notes of an invoice that stand, oldest first."""
    return [
        each
        for each in state.every("credit_note")
        if each["invoice"] == invoice["id"] and each["status"] == "issued"
    ]


def new_lines(state: Sandbox, invoice: Object, given: list[Given]) -> list[Object]:
    """Return credit note lines. Raises ApiError (400) for what the invoice has not got to give back."""
    credited = [line for note in notes_of(state, invoice) for line in note["_lines"]]
    lines: list[Object] = []
    for index, each in enumerate(given):
        param = f"lines[{index}]"
        if each["type"] == "invoice_line_item":
            made = _of_invoice_line(state, invoice, each, credited=[*credited, *lines], param=param)
        else:
            made = _custom(state, each, param=param)
        lines.append(made)
    return lines


def amount_line(state: Sandbox, amount: int) -> Object:
    """Return the one line of a credit note that is given by its amount alone, taxes included."""
    return _line(
        state,
        type="custom_line_item",
        amount=amount,
        quantity=1,
        unit_amount=amount,
        unit_amount_decimal=str(amount),
    )


def _line(state: Sandbox, *, type: str, amount: int, **fields: Any) -> Object:
    return {
        "id": state.new_id("credit_note_line_item"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": None,
        "tax_rates": [],
        "taxes": [],
        "type": type,
        "unit_amount": None,
        "unit_amount_decimal": None,
        **fields,
    }


def _of_invoice_line(
    state: Sandbox, invoice: Object, given: Given, *, credited: list[Object], param: str
) -> Object:
    for name in ("description", "unit_amount", "unit_amount_decimal", "tax_rates"):
        if given.get(name):
            raise ApiError(
                f"`{name}` may only be specified for a line of type custom_line_item.",
                param=f"{param}[{name}]",
            )
    if "invoice_line_item" not in given:
        raise missing_parameter(f"{param}[invoice_line_item]")
    rows = invoice["lines"]["data"]
    line = next((each for each in rows if each["id"] == given["invoice_line_item"]), None)
    if line is None:
        raise missing_resource(
            "invoice line item", given["invoice_line_item"], param=f"{param}[invoice_line_item]", status=400
        )
    before = [each for each in credited if each.get("invoice_line_item") == line["id"]]
    left = line["amount"] - sum(each["amount"] for each in before)
    amount = _amount_of(line, given, left=left, currency=invoice["currency"], param=param)
    made = _line(
        state,
        type="invoice_line_item",
        amount=amount,
        description=line["description"],
        invoice_line_item=line["id"],
        metadata=given.get("metadata") or {},
        quantity=given.get("quantity"),
    )

    def share(whole: int, so_far: int) -> int:
        # Rounding may not give back more than there was; what it leaves over goes with the last of the line.
        rest = whole - so_far
        return rest if amount == left else min(rounded(whole * Decimal(amount) / line["amount"]), rest)

    _discount(made, line, before=before, share=share)
    if "tax_amounts" in given:
        made["taxes"] = _taxes_given(state, given["tax_amounts"] or [], param=param)
    else:
        made["taxes"] = [
            {
                **tax,
                "amount": share(tax["amount"], _credited_tax(before, tax, "amount")),
                "taxable_amount": share(
                    tax["taxable_amount"] or 0, _credited_tax(before, tax, "taxable_amount")
                ),
            }
            for tax in line["taxes"]
        ]
    made["tax_rates"] = _rates_shown(state, made["taxes"])
    return made


def _amount_of(line: Object, given: Given, *, left: int, currency: str, param: str) -> int:
    """Return what of an invoice line is credited, before discount and tax, by amount or by quantity."""
    if ("amount" in given) == ("quantity" in given):
        raise ApiError(
            "You must specify exactly one of `amount` and `quantity` for a line of type invoice_line_item.",
            param=param,
        )
    if "amount" in given:
        name, amount = "amount", given["amount"]
    else:
        name, quantity = "quantity", line["quantity"] or 0
        if not 1 <= given["quantity"] <= quantity:
            raise ApiError(
                f"The quantity to credit must be between 1 and {quantity}, the quantity of the invoice line.",
                param=f"{param}[quantity]",
            )
        amount = rounded(Decimal(line["amount"]) * given["quantity"] / quantity)
    if not 1 <= amount <= left:
        raise ApiError(
            f"The amount to credit ({money_text(amount, currency)}) must be more than nothing and at most what "
            f"is left of the invoice line ({money_text(max(left, 0), currency)}).",
            param=f"{param}[{name}]",
        )
    return amount


def _discount(made: Object, line: Object, *, before: list[Object], share: Any) -> None:
    for each in line["discount_amounts"]:
        so_far = sum(
            row["amount"]
            for other in before
            for row in other["discount_amounts"]
            if row["discount"] == each["discount"]
        )
        amount = share(each["amount"], so_far)
        made["discount_amounts"].append({"amount": amount, "discount": each["discount"]})
    made["discount_amount"] = sum(each["amount"] for each in made["discount_amounts"])
    made["pretax_credit_amounts"] = [{**each, "type": "discount"} for each in made["discount_amounts"]]


def _credited_tax(before: list[Object], tax: Object, field: str) -> int:
    return sum(
        each[field] or 0 for line in before for each in line["taxes"] if _same_tax(each) == _same_tax(tax)
    )


def _same_tax(tax: Object) -> tuple[str, str, str]:
    return tax["tax_rate_details"]["tax_rate"], tax["tax_behavior"], tax["taxability_reason"]


def _custom(state: Sandbox, given: Given, *, param: str) -> Object:
    for name in ("amount", "invoice_line_item"):
        if name in given:
            raise ApiError(
                f"`{name}` may only be specified for a line of type invoice_line_item.",
                param=f"{param}[{name}]",
            )
    for name in ("description", "quantity"):
        if name not in given:
            raise missing_parameter(f"{param}[{name}]")
    if ("unit_amount" in given) == ("unit_amount_decimal" in given):
        raise ApiError(
            "You must specify exactly one of `unit_amount` and `unit_amount_decimal` for a line of type "
            "custom_line_item.",
            param=param,
        )
    unit = Decimal(given["unit_amount"]) if "unit_amount" in given else given["unit_amount_decimal"]
    amount = rounded(unit * given["quantity"])
    if amount < 1:
        raise ApiError("A credit note line must be for more than nothing.", param=param)
    made = _line(
        state,
        type="custom_line_item",
        amount=amount,
        description=given["description"],
        metadata=given.get("metadata") or {},
        quantity=given["quantity"],
        unit_amount=whole_minor(unit),
        unit_amount_decimal=decimal_text(unit),
    )
    if given.get("tax_rates") and given.get("tax_amounts"):
        raise ApiError("You may only specify one of these parameters: tax_amounts, tax_rates.", param=param)
    if given.get("tax_amounts"):
        made["taxes"] = _taxes_given(state, given["tax_amounts"], param=param)
    elif given.get("tax_rates"):
        rates = [
            state.get("tax_rate", each, param=f"{param}[tax_rates][{index}]", status=400)
            for index, each in enumerate(given["tax_rates"])
        ]
        parts = [(each["id"], Decimal(str(each["percentage"])), bool(each["inclusive"])) for each in rates]
        made["taxes"] = taxes_on(amount, parts, reason="not_available")
    made["tax_rates"] = _rates_shown(state, made["taxes"])
    return made


def _taxes_given(state: Sandbox, given: list[Given], *, param: str) -> list[Object]:
    taxes = []
    for index, each in enumerate(given):
        name = f"{param}[tax_amounts][{index}][tax_rate]"
        rate = state.get("tax_rate", each["tax_rate"], param=name, status=400)
        taxes.append(
            {
                "amount": each["amount"],
                "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
                "tax_rate_details": {"tax_rate": rate["id"]},
                "taxability_reason": "not_available",
                "taxable_amount": each["taxable_amount"],
                "type": "tax_rate_details",
            }
        )
    return taxes


def _rates_shown(state: Sandbox, taxes: Iterable[Object]) -> list[Object]:
    found = (state.find("tax_rate", each["tax_rate_details"]["tax_rate"]) for each in taxes)
    return [state.render(each) for each in found if each is not None]


def summed_taxes(lines: list[Object]) -> list[Object]:
    """Return one entry a rate and behaviour, with amounts added up."""
    totals: dict[tuple[str, str, str], Object] = {}
    for each in (tax for line in lines for tax in line["taxes"]):
        row = totals.setdefault(_same_tax(each), {**each, "amount": 0, "taxable_amount": 0})
        row["amount"] += each["amount"]
        row["taxable_amount"] += each["taxable_amount"] or 0
    return list(totals.values())


def summed_discounts(lines: list[Object]) -> list[Object]:
    totals: dict[str, int] = {}
    for each in (row for line in lines for row in line["discount_amounts"]):
        totals[each["discount"]] = totals.get(each["discount"], 0) + each["amount"]
    return [{"amount": amount, "discount": discount} for discount, amount in totals.items()]
