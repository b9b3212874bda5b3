"""The phases of a subscription schedule: read, checked, dated, and shown."""

from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.taxing import get_tax_rates
from sandbox.clock import add_interval
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.lines import is_metered
from sandbox.params import merge_metadata
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.item_changes import price_given
from sandbox.subscriptions.subscribing import Wanted, check_together

MOST_PHASES = 10


def read_phases(state: Sandbox, given: list[dict[str, Any]], *, customer: str, start: int) -> list[Object]:
    """Return the phases with their dates, one after another from `start`, in unix seconds.

    Raises ApiError for phases that leave a gap, that have no end, or whose prices do not go together.
    """
    if len(given) > MOST_PHASES:
        raise ApiError(f"A schedule can have up to {MOST_PHASES} phases.", param="phases")
    phases: list[Object] = []
    for index, each in enumerate(given):
        where = f"phases[{index}]"
        begin = each.get("start_date", start)
        if begin == "now":
            begin = state.now()
        if index and begin != start:
            raise ApiError(
                "The `start_date` of a phase must be the `end_date` of the phase before it.",
                param=f"{where}[start_date]",
            )
        phase = _read_one(state, each, customer=customer, begin=begin, where=where)
        phase["end_date"] = _end(phase, each, last=index == len(given) - 1, state=state, where=where)
        phases.append(phase)
        start = phase["end_date"]
    return phases


def _read_one(state: Sandbox, given: dict[str, Any], *, customer: str, begin: int, where: str) -> Object:
    if not given.get("items"):
        raise missing_parameter(f"{where}[items]")
    items, wanted = [], []
    for number, each in enumerate(given["items"]):
        name = f"{where}[items][{number}]"
        price = price_given(state, each, where=name)
        if price is None:
            raise missing_parameter(f"{name}[price]")
        quantity = each.get("quantity", None if is_metered(price) else 1)
        wanted.append(Wanted(price, quantity))
        item = {
            "billing_thresholds": None,
            "discounts": [
                _shown(state, one, customer=customer, where=name) for one in each.get("discounts") or []
            ],
            "metadata": merge_metadata({}, each.get("metadata") or {}),
            "price": price["id"],
            "tax_rates": get_tax_rates(state, each.get("tax_rates") or [], param=f"{name}[tax_rates]"),
        }
        if quantity is not None:
            item["quantity"] = quantity
        items.append(item)
    currency = wanted[0].price["currency"]
    check_together(wanted, currency=currency)
    trial_end = given.get("trial_end")
    if trial_end == "now":
        trial_end = None
    phase = phase_of(
        items,
        currency=currency,
        start=begin,
        end=None,
        billing_cycle_anchor=given.get("billing_cycle_anchor"),
        collection_method=given.get("collection_method"),
        default_payment_method=given.get("default_payment_method"),
        default_tax_rates=get_tax_rates(
            state, given.get("default_tax_rates") or [], param=f"{where}[default_tax_rates]"
        ),
        description=given.get("description"),
        metadata=merge_metadata({}, given.get("metadata") or {}),
        proration_behavior=given.get("proration_behavior", "create_prorations"),
        trial_end=trial_end,
        _trial=given.get("trial", False),
    )
    phase["discounts"] = [
        _shown(state, each, customer=customer, where=where) for each in given.get("discounts") or []
    ]
    if "automatic_tax" in given:
        phase["automatic_tax"]["enabled"] = given["automatic_tax"]["enabled"]
    return phase


def _shown(state: Sandbox, given: dict[str, Any], *, customer: str, where: str) -> Object:
    # Redeemed when the phase begins; tried out now, so that a code that cannot be is refused at once.
    with state.scratch():
        discounting.new_discounts(state, [given], customer=customer, param=f"{where}[discounts]")
    return {name: given.get(name) for name in ("coupon", "discount", "promotion_code")}


def _of(discount: str) -> Object:
    return {"coupon": None, "discount": discount, "promotion_code": None}


def phase_of(items: list[Object], *, currency: str, start: int, end: int | None, **fields: Any) -> Object:
    """Return a phase in Stripe's shape."""
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": currency,
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "end_date": end,
        "invoice_settings": None,
        "items": items,
        "metadata": {},
        "on_behalf_of": None,
        "proration_behavior": "create_prorations",
        "start_date": start,
        "transfer_data": None,
        "trial_end": None,
        **fields,
    }


def _end(phase: Object, given: dict[str, Any], *, last: bool, state: Sandbox, where: str) -> int:
    end = given.get("end_date")
    if end is not None and "duration" in given:
        raise ApiError("You may only specify one of these parameters: duration, end_date.", param=where)
    if end == "now":
        end = state.now()
    if end is None:
        length = given.get("duration")
        if length is None:
            if not last:
                raise ApiError(
                    "Each phase but the last must have an `end_date` or a `duration`.",
                    param=f"{where}[end_date]",
                )
            recurring = state.get("price", phase["items"][0]["price"])["recurring"]
            length = {"interval": recurring["interval"], "interval_count": recurring["interval_count"]}
        end = add_interval(
            phase["start_date"], interval=length["interval"], count=length.get("interval_count", 1)
        )
    if end <= phase["start_date"]:
        raise ApiError("A phase must end after it starts.", param=f"{where}[end_date]")
    return int(end)


def phase_from(state: Sandbox, subscription: Object, items: list[Object]) -> Object:
    """Return the phase that a running subscription is in, from its period's start to its period's end."""
    shown = []
    for item in items:
        entry = {
            "billing_thresholds": None,
            "discounts": [_of(discount) for discount in item["discounts"]],
            "metadata": dict(item["metadata"]),
            "price": item["price"],
            "tax_rates": list(item["tax_rates"]),
        }
        if "quantity" in item:
            entry["quantity"] = item["quantity"]
        shown.append(entry)
    return phase_of(
        shown,
        currency=subscription["currency"],
        start=min(item["current_period_start"] for item in items),
        end=min(item["current_period_end"] for item in items),
        automatic_tax={**subscription["automatic_tax"]},
        default_payment_method=subscription["default_payment_method"],
        default_tax_rates=list(subscription["default_tax_rates"]),
        description=subscription["description"],
        discounts=[_of(each) for each in subscription["discounts"]],
        metadata=dict(subscription["metadata"]),
        trial_end=subscription["trial_end"] if subscription["status"] == "trialing" else None,
        _trial=False,
    )
