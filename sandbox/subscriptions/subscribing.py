"""The start of a subscription and its first invoice. Shared by the API, Checkout and the portal."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sandbox.catalog.amounts import line_amount
from sandbox.clock import add_interval, boundary_after, period_around
from sandbox.errors import ApiError
from sandbox.invoices.debits import note_debits
from sandbox.invoices.invoice_items import new_item, pending
from sandbox.invoices.invoicing import collect, draft_invoice, finalize
from sandbox.invoices.lines import charge_lines, is_metered, proration_line
from sandbox.payments.cards import Decline
from sandbox.render import differences
from sandbox.state import Sandbox
from sandbox.store import Object
from sandbox.subscriptions.prorating import debit_line, net_amounts, share_of
from sandbox.subscriptions.subscription_shape import new_subscription, new_subscription_item

ENDED = ("canceled", "incomplete_expired")
LIVE = ("active", "trialing", "past_due", "unpaid", "incomplete", "paused")
INCOMPLETE_FOR = 23 * 3600
TRIAL_WARNING = 3 * 86400
ENTRIES = (
    "subscription.period_end",
    "subscription.trial_end",
    "subscription.trial_will_end",
    "subscription.cancel",
    "subscription.incomplete_expire",
    "subscription.pending_update_expire",
    "subscription.resume_collection",
    "subscription.resume_expire",
)


@dataclass
class Wanted:
    """One price to subscribe to. Metered prices carry no quantity."""

    price: Object
    quantity: int | None = 1
    metadata: dict[str, str] = field(default_factory=dict)
    discounts: list[dict[str, Any]] = field(default_factory=list)
    tax_rates: list[str] = field(default_factory=list)

    def amount(self) -> int:
        """Return what one period costs up front, in minor units."""
        return 0 if is_metered(self.price) else line_amount(self.price, self.quantity or 0)


def items_of(state: Sandbox, subscription: Object) -> list[Object]:
    """Return the subscription's items in the order they were added."""
    return [
        each for identifier in subscription["_items"] if (each := state.find("subscription_item", identifier))
    ]


def tell(state: Sandbox, subscription: Object, *, event: str = "customer.subscription.updated") -> None:
    """Store a subscription and tell of what has changed since it was last told of; of nothing, if nothing."""
    state.put(subscription)
    shown = state.render(subscription)
    before, subscription["_told"] = subscription["_told"], shown
    if event != "customer.subscription.updated":
        state.emit(event, subscription)
    elif previous := differences(before or {}, shown):
        state.emit(event, subscription, previous=previous)


def build(
    state: Sandbox,
    *,
    customer: Object,
    wanted: list[Wanted],
    trial_end: int | None = None,
    billing_cycle_anchor: int | None = None,
    **fields: Any,
) -> Object:
    """Store and return a subscription with its items, status `incomplete` or `trialing`, not yet told of.

    Raises ApiError for prices that cannot share one subscription and for an anchor out of reach.
    """
    currency = fields.get("currency") or wanted[0].price["currency"]
    check_together(wanted, currency=currency)
    now = state.now()
    if billing_cycle_anchor is not None:
        _check_anchor(billing_cycle_anchor, wanted, now=now, trial_end=trial_end)
    subscription = new_subscription(
        state,
        customer=customer,
        anchor=billing_cycle_anchor or trial_end or now,
        trial_end=trial_end,
        **{**fields, "currency": currency},
    )
    state.put(subscription)
    for each in wanted:
        add_item(state, subscription, each, backdated=True)
    return state.put(subscription)


def _check_anchor(anchor: int, wanted: list[Wanted], *, now: int, trial_end: int | None) -> None:
    if trial_end is not None:
        raise ApiError(
            "The sandbox does not combine billing_cycle_anchor with a trial (Stripe does).",
            code="sandbox_unsupported",
            param="billing_cycle_anchor",
        )
    if anchor <= now:
        raise ApiError("billing_cycle_anchor must be in the future.", param="billing_cycle_anchor")
    for each in wanted:
        recurring = each.price["recurring"]
        natural = add_interval(now, interval=recurring["interval"], count=recurring["interval_count"])
        if anchor > natural:
            raise ApiError(
                "billing_cycle_anchor cannot be later than next natural billing date "
                f"({natural}) for the plan.",
                param="billing_cycle_anchor",
            )


def check_together(wanted: list[Wanted], *, currency: str) -> None:
    """Raise ApiError (400) for prices that cannot share one subscription."""
    for index, each in enumerate(wanted):
        where = f"items[{index}]"
        if each.price["type"] != "recurring":
            raise ApiError(
                f"The price specified is set to `type=one_time` but this field only accepts prices with "
                f"`type=recurring`: {each.price['id']}.",
                param=f"{where}[price]",
            )
        if currency != each.price["currency"] and currency not in each.price.get("_currency_options", {}):
            raise ApiError("All prices on a subscription must use the same currency.", param="items")
        if is_metered(each.price) and each.quantity is not None:
            raise ApiError(
                "Quantity should not be specified where usage_type is `metered`. Remove quantity from "
                f"`{where}`.",
                param=f"{where}[quantity]",
            )
    if len({each.price["id"] for each in wanted}) < len(wanted):
        raise ApiError("Cannot add multiple subscription items with the same plan.", param="items")
    if len(wanted) > 20:
        raise ApiError("A subscription can have up to 20 items.", param="items")


def add_item(state: Sandbox, subscription: Object, wanted: Wanted, *, backdated: bool = False) -> Object:
    """Store and return a new item whose period is the one the subscription's anchor gives it now."""
    now, trial = state.now(), subscription["trial_end"]
    recurring = wanted.price["recurring"]
    if trial is not None and trial > now:
        end = trial
    else:
        end = boundary_after(
            subscription["billing_cycle_anchor"],
            interval=recurring["interval"],
            count=recurring["interval_count"],
            after=now,
        )
    # Usage counts from the date a subscription is backdated to; what is licensed is charged for apart.
    start = min(now, subscription["start_date"]) if is_metered(wanted.price) and backdated else now
    item = new_subscription_item(
        state,
        subscription,
        price=wanted.price,
        quantity=None if is_metered(wanted.price) else wanted.quantity,
        period=(start, end),
        metadata=dict(wanted.metadata),
        tax_rates=list(wanted.tax_rates),
    )
    subscription["_items"].append(item["id"])
    state.put(subscription)
    return state.put(item)


def first_invoice(
    state: Sandbox,
    subscription: Object,
    *,
    customer: Object,
    proration_behavior: str = "create_prorations",
    paid_by: Object | None = None,
) -> Object | None:
    """Finalize and return the first invoice, or None where it would be empty (metered prices only).

    Flexible billing mode puts no line for a metered item on the invoice that starts a subscription.
    A first period shortened by an anchor is charged for by the second, or not at all with `none`.
    `paid_by` is a payment intent that has paid for it already.
    """
    lines = first_lines(state, subscription, prorate=proration_behavior != "none")
    waiting = pending(
        state, customer=customer["id"], subscription=subscription["id"], currency=subscription["currency"]
    )
    if not lines and not waiting:
        return None
    invoice = draft_invoice(
        state,
        customer=customer,
        subscription=subscription,
        lines=lines,
        reason="subscription_create",
        period=(state.now(), state.now()),
    )
    note_debits(state, invoice)
    finalize(state, invoice, paid_by=paid_by)
    return invoice


def first_lines(state: Sandbox, subscription: Object, *, prorate: bool) -> list[Object]:
    trial = subscription["status"] == "trialing"
    lines: list[Object] = []
    items = items_of(state, subscription)
    nets: dict[str, Fraction] | None = None
    for item in items:
        price = state.get("price", item["price"])
        if is_metered(price):
            continue
        period = (item["current_period_start"], item["current_period_end"])
        whole = natural_period(subscription, price, at=period[0])
        if prorate and subscription["start_date"] < period[0]:
            nets = nets or net_amounts(state, subscription, items)
            lines.append(_backdated_line(state, subscription, item, net=nets[item["id"]]))
        if trial or whole == period:
            lines += charge_lines(
                state,
                item,
                quantity=item["quantity"],
                period=period,
                currency=subscription["currency"],
                trial=trial,
            )
        elif prorate:
            nets = nets or net_amounts(state, subscription, items)
            line = debit_line(
                state,
                item,
                net=nets[item["id"]],
                at=period[0],
                period=whole,
                currency=subscription["currency"],
            )
            lines += [line] if line else []
    return lines


def _backdated_line(state: Sandbox, subscription: Object, item: Object, *, net: Fraction) -> Object:
    """Return the charge for the time between the date a subscription is backdated to and now."""
    price = state.get("price", item["price"])
    start, at = subscription["start_date"], item["current_period_start"]
    amount, end = 0, at
    while end > start:
        period = natural_period(subscription, price, at=end - 1)
        amount += share_of(net, end - max(period[0], start), period[1] - period[0])
        end = period[0]
    return proration_line(
        state,
        item,
        price=price,
        amount=amount,
        quantity=item["quantity"],
        period=(start, at),
        currency=subscription["currency"],
    )


def natural_period(subscription: Object, price: Object, *, at: int) -> tuple[int, int]:
    """Return the period a price would have at a moment by the subscription's anchor."""
    recurring = price["recurring"]
    return period_around(
        subscription["billing_cycle_anchor"],
        interval=recurring["interval"],
        count=recurring["interval_count"],
        at=at,
    )


def charge_once(
    state: Sandbox, subscription: Object, *, customer: Object, price: Object, quantity: int
) -> Object:
    """Store an invoice item of a one-time price that the subscription's next invoice takes up."""
    currency = subscription["currency"]
    item = new_item(
        state,
        customer=customer,
        amount=line_amount(price, quantity, currency=currency),
        currency=currency,
        period=(state.now(), state.now()),
        description=str((state.find("product", price["product"]) or {}).get("name")),
        quantity=quantity,
        price=price,
        subscription=subscription["id"],
    )
    return state.create(item, event="invoiceitem.created")


def begin(state: Sandbox, subscription: Object) -> None:
    """Tell of a new subscription and enter what time will bring it."""
    tell(state, subscription, event="customer.subscription.created")
    identifier, now, trial = subscription["id"], state.now(), subscription["trial_end"]
    if subscription["status"] == "incomplete":
        state.agenda.set("subscription.incomplete_expire", identifier, now + INCOMPLETE_FOR)
    if trial is not None:
        warn_of_trial_end(state, subscription)
    if subscription["cancel_at"] is not None:
        state.agenda.set("subscription.cancel", identifier, subscription["cancel_at"])
    plan_period_end(state, subscription)


def warn_of_trial_end(state: Sandbox, subscription: Object) -> None:
    """Have trial_will_end told three days before, or now where the trial is shorter than that."""
    at = max(subscription["trial_end"] - TRIAL_WARNING, state.now())
    state.agenda.set("subscription.trial_will_end", subscription["id"], at)


def plan_period_end(state: Sandbox, subscription: Object) -> None:
    """Enter when the first of its items' periods ends; what ends a trial comes before other renewals."""
    end = min(item["current_period_end"] for item in items_of(state, subscription))
    ends_trial = subscription["status"] == "trialing" and subscription["trial_end"] <= end
    what, other = ("subscription.trial_end", "subscription.period_end")[:: 1 if ends_trial else -1]
    state.agenda.drop(other, identifier=subscription["id"])
    state.agenda.set(what, subscription["id"], end)


def settle(
    state: Sandbox,
    subscription: Object,
    invoice: Object | None,
    method: Object | None,
    *,
    off_session: bool = False,
) -> Decline | None:
    """Collect the first invoice. What comes of it sets the status; without one the subscription is active."""
    if invoice is None:
        if subscription["status"] == "incomplete":
            subscription["status"] = "active"
            state.agenda.drop("subscription.incomplete_expire", identifier=subscription["id"])
        tell(state, subscription)
        return None
    decline = collect(state, invoice, method, off_session=off_session) if method is not None else None
    tell(state, subscription)
    return decline


def paying_method(
    state: Sandbox, subscription: Object | None, *, customer: Object, invoice: Object | None = None
) -> Object | None:
    """Return the card that is charged: the invoice's own default, the subscription's, else the customer's."""
    chosen = (
        (invoice or {}).get("default_payment_method")
        or (subscription or {}).get("default_payment_method")
        or (customer.get("invoice_settings") or {}).get("default_payment_method")
    )
    return state.find("payment_method", chosen) if chosen else None
