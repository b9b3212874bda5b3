"""What a request to subscribe asks for, read and checked."""

from typing import Any

from sandbox.catalog import discounting
from sandbox.catalog.taxing import get_tax_rates
from sandbox.errors import ApiError, missing_parameter
from sandbox.invoices.lines import is_metered
from sandbox.params import merge_metadata
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.changing import LONGEST_TRIAL
from sandbox.subscriptions.item_changes import price_given
from sandbox.subscriptions.subscribing import Wanted, items_of


def trial_end_of(state: Sandbox, params: dict[str, Any]) -> int | None:
    """Return when the trial asked for ends, in unix seconds. Raises ApiError for a date in the past."""
    days, end = params.get("trial_period_days"), params.get("trial_end")
    if days is not None and end is not None:
        raise ApiError("You may only specify one of these parameters: trial_end, trial_period_days.")
    if days is not None:
        return state.now() + int(days) * 86400
    if end is None or end == "now":
        return None
    if end <= state.now():
        raise ApiError(
            "Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end"
        )
    if end > state.now() + LONGEST_TRIAL:
        raise ApiError("Invalid trial_end: a trial may last two years at most.", param="trial_end")
    return int(end)


def redeem_for_items(state: Sandbox, subscription: Object, wanted: list[Wanted]) -> None:
    """Give a new subscription's items the discounts asked for. Raises ApiError for one not to be redeemed."""
    for index, (each, item) in enumerate(zip(wanted, items_of(state, subscription), strict=True)):
        if each.discounts:
            discounting.replace_discounts(
                state,
                item,
                each.discounts,
                currency=subscription["currency"],
                param=f"items[{index}][discounts]",
            )


def backdated(state: Sandbox, params: dict[str, Any]) -> dict[str, int]:
    """Return the start date a subscription is backdated to. Raises ApiError for one that is not past."""
    start = params.get("backdate_start_date")
    if start is None:
        return {}
    if start > state.now():
        raise ApiError("backdate_start_date must be in the past.", param="backdate_start_date")
    if trial_end_of(state, params) is not None:
        raise ApiError(
            "The sandbox does not backdate a subscription with a trial (Stripe does).",
            code="sandbox_unsupported",
            param="backdate_start_date",
        )
    return {"start_date": start}


def read_wanted(state: Sandbox, given: dict[str, Any], *, where: str) -> Wanted:
    """Return what an entry of `items` asks for. Raises ApiError for a price that cannot be sold."""
    price = price_given(state, given, where=where)
    if price is None:
        raise missing_parameter(f"{where}[price]")
    return Wanted(
        price,
        given.get("quantity", None if is_metered(price) else 1),
        merge_metadata({}, given.get("metadata") or {}),
        given.get("discounts") or [],
        get_tax_rates(state, given.get("tax_rates") or [], param=f"{where}[tax_rates]"),
    )
