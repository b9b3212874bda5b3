"""What completing a Checkout session sells, and what that costs.

The page's amounts are those of the sale itself, made in scratch and undone: page and invoice cannot differ.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from sandbox.acting import demand
from sandbox.catalog.amounts import line_amount
from sandbox.catalog.discounting import new_discounts
from sandbox.invoices.invoice_items import lines_of, new_item
from sandbox.invoices.invoicing import draft_invoice
from sandbox.payments.methods import address as whole_address
from sandbox.resources.customers import new_customer
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.subscribing import Wanted, begin, build, charge_once, first_invoice


@dataclass
class Buyer:
    """What a payer told of themselves. `tax_id` is {type, value}; `consent` as the session shows it."""

    email: str | None = None
    name: str | None = None
    phone: str | None = None
    address: dict[str, str | None] | None = None
    tax_id: dict[str, str] | None = None
    business_name: str | None = None
    consent: dict[str, str | None] | None = None
    keeps_card: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Sale:
    """What was sold. `lines` leads from an invoice line's item to the session's line."""

    invoice: Object | None
    subscription: Object | None = None
    lines: dict[str, str] = field(default_factory=dict)


@dataclass
class Reckoning:
    """What completing a session would cost now, in minor units.

    `due` is what the card pays; `balance` what the customer's balance adds to the total (or takes off it,
    below zero). `tax_known` is False while automatic tax waits for an address.
    """

    subtotal: int = 0
    discount: int = 0
    tax: int = 0
    total: int = 0
    due: int = 0
    balance: int = 0
    tax_known: bool = True
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    breakdown: dict[str, list[Object]] = field(default_factory=lambda: {"discounts": [], "taxes": []})


def find_customer(state: Sandbox, session: Object, buyer: Buyer) -> Object:
    """Return the session's customer, brought up to date as it may be, or a new one, stored and told of."""
    if session["customer"] is None:
        customer = new_customer(
            state,
            email=buyer.email,
            name=buyer.business_name or buyer.name,
            phone=buyer.phone,
            address=whole_address(buyer.address) if buyer.address else None,
        )
        state.create(customer, event="customer.created")
    else:
        customer = state.get_customer(session["customer"])
        before = state.render(customer)
        may = session["_customer_update"]
        if may.get("name") == "auto" and (buyer.business_name or buyer.name):
            customer["name"] = buyer.business_name or buyer.name
        if may.get("address") == "auto" and buyer.address:
            customer["address"] = whole_address(buyer.address)
        if buyer.phone:
            customer["phone"] = buyer.phone
        state.update(customer, before=before, event="customer.updated")
    known = {
        (each["type"], each["value"]) for each in state.every("tax_id") if each["customer"] == customer["id"]
    }
    if buyer.tax_id and (buyer.tax_id["type"], buyer.tax_id["value"]) not in known:
        demand(state, "POST", f"/v1/customers/{customer['id']}/tax_ids", buyer.tax_id)
    return state.get("customer", customer["id"])


def trial_end_of(state: Sandbox, session: Object) -> int | None:
    given = session["_subscription_data"]
    days = given.get("trial_period_days")
    end: int | None = given.get("trial_end")
    return state.now() + days * 86400 if days else end


def redeemed(session: Object) -> list[dict[str, str]]:
    """Return the session's discounts as parameters."""
    return [{name: value for name, value in each.items() if value} for each in session["discounts"]]


def subscribe(
    state: Sandbox,
    session: Object,
    customer: Object,
    *,
    method: str | None,
    paid_by: Object | None = None,
) -> Sale:
    """Start the subscription of a session and finalize its first invoice.

    `paid_by` is the payment intent that has paid for it; without one the invoice is left open.
    """
    given = session["_subscription_data"]
    lines = [each for each in session["_lines"] if each["quantity"] != 0]
    recurring = [each for each in lines if each["_recurring"]]
    fields: dict[str, Any] = {}
    if "trial_settings" in given:
        fields["trial_settings"] = given["trial_settings"]
    enabled = session["automatic_tax"]["enabled"]
    subscription = build(
        state,
        customer=customer,
        wanted=[
            Wanted(
                state.get("price", each["price"]),
                each["quantity"],
                metadata=dict(each["metadata"]),
                tax_rates=list(each["_tax_rates"]),
            )
            for each in recurring
        ],
        trial_end=trial_end_of(state, session),
        billing_cycle_anchor=given.get("billing_cycle_anchor"),
        automatic_tax={
            "disabled_reason": None,
            "enabled": enabled,
            "liability": {"type": "self"} if enabled else None,
        },
        currency=session["currency"],
        default_payment_method=method,
        default_tax_rates=list(given.get("default_tax_rates", [])),
        description=given.get("description"),
        metadata=dict(given["metadata"]),
        **fields,
    )
    sold = {item: line["id"] for item, line in zip(subscription["_items"], recurring, strict=True)}
    subscription["discounts"] = new_discounts(
        state, redeemed(session), customer=customer["id"], subscription=subscription["id"]
    )
    state.put(subscription)
    begin(state, subscription)
    for each in lines:
        if not each["_recurring"]:
            item = charge_once(
                state,
                subscription,
                customer=customer,
                price=state.get("price", each["price"]),
                quantity=each["quantity"],
            )
            item["tax_rates"] = list(each["_tax_rates"])
            state.put(item)
            sold[item["id"]] = each["id"]
    invoice = first_invoice(
        state,
        subscription,
        customer=state.get("customer", customer["id"]),
        proration_behavior=given.get("proration_behavior", "create_prorations"),
        paid_by=paid_by,
    )
    return Sale(invoice, subscription, sold)


def draft_once(state: Sandbox, session: Object, customer: Object) -> Sale:
    """Draft the invoice of what a session in payment mode sells."""
    now = state.now()
    items: dict[str, Object] = {}
    for each in session["_lines"]:
        if each["quantity"] == 0:
            continue
        price = state.get("price", each["price"])
        item = new_item(
            state,
            customer=customer,
            amount=line_amount(price, each["quantity"], currency=session["currency"]),
            currency=session["currency"],
            period=(now, now),
            description=each["description"],
            quantity=each["quantity"],
            price=price,
            tax_rates=list(each["_tax_rates"]),
        )
        items[each["id"]] = state.create(item, event="invoiceitem.created")
    enabled = session["automatic_tax"]["enabled"]
    wishes = session["invoice_creation"]["invoice_data"]
    invoice = draft_invoice(
        state,
        customer=customer,
        lines=[line for each in items.values() for line in lines_of(state, each)],
        reason="manual",
        period=(now, now),
        currency=session["currency"],
        pull=False,
        auto_advance=False,
        automatic_tax={
            "disabled_reason": None,
            "enabled": enabled,
            "liability": {"type": "self"} if enabled else None,
            "provider": "stripe" if enabled else None,
            "status": None,
        },
        custom_fields=wishes["custom_fields"],
        description=wishes["description"],
        discounts=new_discounts(
            state, redeemed(session), customer=customer["id"], checkout_session=session["id"]
        ),
        footer=wishes["footer"],
        metadata=dict(wishes["metadata"] or {}),
    )
    for each in items.values():
        each["invoice"] = invoice["id"]
        state.put(each)
    return Sale(invoice, None, {item["id"]: line for line, item in items.items()})


def reckon(state: Sandbox, session: Object, buyer: Buyer) -> Reckoning:
    """Return what completing the session would cost this buyer now. Raises ApiError where it cannot be."""
    if session["mode"] == "setup":
        return Reckoning()
    with state.scratch():
        customer = find_customer(state, session, buyer)
        if session["mode"] == "payment":
            # What a payment costs does not depend on the customer's balance, which is for invoices.
            customer["balance"] = 0
            state.put(customer)
            sale = draft_once(state, session, customer)
        else:
            sale = subscribe(state, session, customer, method=None)
        return read_sale(state, session, sale)


def read_sale(state: Sandbox, session: Object, sale: Sale) -> Reckoning:
    """Return what a sale came to by its invoice."""
    invoice = sale.invoice
    if invoice is None:
        return Reckoning(tax_known=not session["automatic_tax"]["enabled"])
    found = Reckoning(
        subtotal=sum(line["amount"] for line in invoice["lines"]["data"]),
        discount=sum(each["amount"] for each in invoice["total_discount_amounts"]),
        tax=sum(each["amount"] for each in invoice["total_taxes"]),
        total=invoice["total"],
        due=invoice["total"] if session["mode"] == "payment" else invoice["amount_due"],
        tax_known=invoice["automatic_tax"]["status"] != "requires_location_inputs",
        breakdown={
            "discounts": [_discount(state, each) for each in invoice["total_discount_amounts"]],
            "taxes": [_tax(state, each) for each in invoice["total_taxes"]],
        },
    )
    found.balance = found.due - max(found.total, 0)
    for line in invoice["lines"]["data"]:
        details = (
            line["parent"].get("subscription_item_details")
            or line["parent"].get("invoice_item_details")
            or {}
        )
        key = details.get("subscription_item") or details.get("invoice_item")
        if key not in sale.lines:
            continue
        known = found.lines.setdefault(
            sale.lines[key],
            {"subtotal": 0, "discount": 0, "tax": 0, "total": 0, "discounts": [], "taxes": []},
        )
        off = sum(each["amount"] for each in line["discount_amounts"])
        known["subtotal"] += line["amount"]
        known["discount"] += off
        known["tax"] += sum(each["amount"] for each in line["taxes"])
        known["total"] += line["amount"] - off
        known["total"] += sum(each["amount"] for each in line["taxes"] if each["tax_behavior"] == "exclusive")
        known["discounts"] += [_discount(state, each) for each in line["discount_amounts"]]
        known["taxes"] += [_tax(state, each) for each in line["taxes"]]
    return found


def _discount(state: Sandbox, amount: Object) -> Object:
    return {
        "amount": amount["amount"],
        "discount": state.render(state.get("discount", amount["discount"])),
    }


def _tax(state: Sandbox, tax: Object) -> Object:
    reason = tax["taxability_reason"]
    return {
        "amount": tax["amount"],
        "rate": state.render(state.get("tax_rate", tax["tax_rate_details"]["tax_rate"])),
        "taxability_reason": None if reason == "not_available" else reason,
        "taxable_amount": tax["taxable_amount"],
    }


def note(session: Object, found: Reckoning) -> None:
    """Write what a session costs into it and its lines."""
    if session["mode"] == "setup":
        return
    session["amount_subtotal"], session["amount_total"] = found.subtotal, found.total
    session["total_details"] = {
        "amount_discount": found.discount,
        "amount_shipping": 0,
        "amount_tax": found.tax,
    }
    session["_breakdown"] = found.breakdown
    if session["automatic_tax"]["enabled"]:
        session["automatic_tax"]["status"] = "complete" if found.tax_known else "requires_location_inputs"
    for line in session["_lines"]:
        amounts = found.lines.get(line["id"], {})
        for name in ("subtotal", "discount", "tax", "total"):
            line[f"amount_{name}"] = amounts.get(name, 0)
        line["_discounts"] = amounts.get("discounts", [])
        line["_taxes"] = amounts.get("taxes", [])
