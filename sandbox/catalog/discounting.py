"""Discounts: redeeming coupons and promotion codes, and taking them off the lines of an invoice."""

from decimal import Decimal
from typing import Any

from sandbox.catalog.amounts import line_amount, rounded
from sandbox.catalog.redeeming import amount_off, redeemable
from sandbox.clock import add_interval
from sandbox.errors import ApiError, missing_resource
from sandbox.render import expandable
from sandbox.state import Sandbox
from sandbox.store import Object, copied

expandable(
    "discount", {"customer": "customer", "promotion_code": "promotion_code", "source.coupon": "coupon"}
)
expandable("invoice", {"total_discount_amounts.discount": "discount"})
expandable("line_item", {"discount_amounts.discount": "discount"})

# What of a coupon a discount keeps: deleting or remaking the coupon later changes nothing for its holders.
TERMS = ("amount_off", "currency", "duration", "duration_in_months", "percent_off", "_applies_to", "_amounts")


def new_discounts(
    state: Sandbox,
    given: list[dict[str, Any]],
    *,
    customer: str | None,
    subscription: str | None = None,
    item: str | None = None,
    invoice: str | None = None,
    invoice_item: str | None = None,
    checkout_session: str | None = None,
    subtotal: int | None = None,
    currency: str | None = None,
    param: str = "discounts",
) -> list[str]:
    """Redeem each `{coupon}`, `{promotion_code}` or `{discount}` and return the ids of the discounts.

    A `discount` given is one that exists and is used again as it is. `subtotal` is in minor units of
    `currency`, by default what one period of the subscription or item costs; where there is none to be
    known, a promotion code's minimum is not looked at. `customer.discount.created` is told for those of a
    subscription. Raises ApiError (400) for one that may not be redeemed.
    """
    if subtotal is None and (subscription or item):
        subtotal = _subtotal(state, subscription=subscription, item=item, currency=currency)
    made: list[str] = []
    for index, each in enumerate(given):
        name = f"{param}[{index}]"
        if len(each) != 1:
            raise ApiError(
                "You must specify exactly one of these parameters: coupon, promotion_code, discount.",
                param=name,
            )
        if "discount" in each:
            made.append(
                _existing(state, each["discount"], customer=customer, param=f"{name}[discount]")["id"]
            )
            continue
        coupon, code = redeemable(
            state, each, customer=customer, subtotal=subtotal, currency=currency, param=name
        )
        _count(state, coupon, event="coupon.updated")
        if code is not None:
            _count(state, code, event="promotion_code.updated")
        discount = _new(
            state,
            coupon,
            promotion_code=code["id"] if code else None,
            customer=customer,
            subscription=subscription,
            subscription_item=item,
            invoice=invoice,
            invoice_item=invoice_item,
            checkout_session=checkout_session,
        )
        state.create(discount, event="customer.discount.created" if _is_told(discount) else None)
        made.append(discount["id"])
    return made


def replace_discounts(
    state: Sandbox, holder: Object, given: list[dict[str, Any]], *, currency: str, param: str = "discounts"
) -> None:
    """Give a subscription or an item other discounts, store it, and tell of those that came and went.

    Raises ApiError (400) for one that may not be redeemed.
    """
    is_item = holder["object"] == "subscription_item"
    subscription = state.get("subscription", holder["subscription"]) if is_item else holder
    kept = new_discounts(
        state,
        given,
        customer=subscription["customer"],
        subscription=None if is_item else holder["id"],
        item=holder["id"] if is_item else None,
        currency=currency,
        param=param,
    )
    for identifier in holder["discounts"]:
        if identifier not in kept:
            _take_off(state, holder, state.get("discount", identifier))
    holder["discounts"] = kept
    state.put(holder)


def _subtotal(
    state: Sandbox, *, subscription: str | None, item: str | None, currency: str | None
) -> int | None:
    """Return what the next period costs before discounts, usage aside; a trial costs nothing."""
    owner = state.find("subscription", subscription) if subscription else None
    names = [item] if item else owner["_items"] if owner else []
    if owner is not None and owner.get("status") == "trialing":
        return 0
    total, known = 0, False
    for each in names:
        row = state.find("subscription_item", each)
        price = state.find("price", row["price"]) if row else None
        if row is not None and price is not None and row.get("quantity") is not None:
            known = True
            total += line_amount(price, row["quantity"], currency=currency)
    return total if known else None


def _existing(state: Sandbox, identifier: str, *, customer: str | None, param: str) -> Object:
    found = state.find("discount", identifier)
    if found is None or found["customer"] not in (None, customer):
        raise missing_resource("discount", identifier, param=param, status=400)
    return found


def _count(state: Sandbox, redeemed: Object, *, event: str) -> None:
    before = state.render(redeemed)
    redeemed["times_redeemed"] += 1
    state.update(redeemed, before=before, event=event)


def _new(state: Sandbox, coupon: Object, **fields: Any) -> Object:
    start, end = state.now(), None
    if coupon["duration"] == "repeating":
        end = add_interval(start, interval="month", count=coupon["duration_in_months"])
    discount = {
        "id": state.new_id("discount"),
        "object": "discount",
        "customer_account": None,
        "end": end,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": start,
        **fields,
        "_terms": {name: copied(coupon[name]) for name in TERMS},
    }
    if end is not None and (fields["subscription"] or fields["subscription_item"]):
        state.agenda.set("discount_end", discount["id"], end)
    return discount


def is_live(state: Sandbox, discount_id: str, *, at: int) -> bool:
    """Return whether a discount still takes something off at a moment. Its end is not part of it."""
    discount = state.find("discount", discount_id)
    return discount is not None and (discount["end"] is None or at < discount["end"])


def discount_lines(state: Sandbox, invoice: Object, *, at: int) -> None:
    """Fill the lines' `discount_amounts` and the invoice's `total_discount_amounts`, in minor units.

    Discounts of a line come before those of the whole invoice; each is taken off what those before it left.
    A draft keeps the discounts it was made with, though one may end in the hour before it is finalized.
    """
    at = min(at, invoice.get("created", at))
    lines = invoice["lines"]["data"]
    whole = list(invoice["discounts"])
    own = [each for line in lines for each in line["discounts"] if each not in whole]
    left: list[int] = []
    for line in lines:
        line["discount_amounts"] = []
        left.append(max(line["amount"], 0) if line["discountable"] else 0)
    totals = dict.fromkeys(each for each in [*own, *whole] if is_live(state, each, at=at))
    for identifier in totals:
        terms = state.get("discount", identifier)["_terms"]
        eligible = [
            index
            for index, line in enumerate(lines)
            if line["discountable"]
            and line["amount"] >= 0
            and (identifier in whole or identifier in line["discounts"])
            and _covers(terms, line)
        ]
        taken = _taken(terms, [left[index] for index in eligible], currency=invoice["currency"])
        for index, amount in zip(eligible, taken, strict=True):
            left[index] -= amount
            lines[index]["discount_amounts"].append({"amount": amount, "discount": identifier})
        totals[identifier] = sum(taken)
    invoice["total_discount_amounts"] = [
        {"amount": amount, "discount": identifier} for identifier, amount in totals.items()
    ]


def _covers(terms: Object, line: Object) -> bool:
    if terms["_applies_to"] is None:
        return True
    details = (line["pricing"] or {}).get("price_details") or {}
    return details.get("product") in terms["_applies_to"]


def _taken(terms: Object, left: list[int], *, currency: str) -> list[int]:
    """Return what a coupon takes off each line, given what is left of it."""
    if terms["percent_off"] is not None:
        share = Decimal(str(terms["percent_off"])) / 100
        return [rounded(each * share) for each in left]
    return spread(min(amount_off(terms, currency) or 0, sum(left)), left)


def spread(amount: int, weights: list[int]) -> list[int]:
    """Return shares of `amount` in proportion to weights that sum exactly; the largest remainders gain.

    Where `amount` is no more than the sum of the weights, no share is more than its weight.
    """
    whole = sum(weights)
    if whole == 0:
        return [0] * len(weights)
    shares = [amount * each // whole for each in weights]
    rest = sorted(range(len(weights)), key=lambda index: -(amount * weights[index] % whole))
    for index in rest[: amount - sum(shares)]:
        shares[index] += 1
    return shares


def spent(state: Sandbox, subscription: Object, invoice: Object | None = None) -> None:
    """Take used `once` discounts and ended ones off a subscription and its items, and store both.

    To be called after an invoice of the subscription was drafted (by default its latest): a `once` discount
    is used by the first invoice that it took something off.
    """
    if invoice is None and subscription["latest_invoice"]:
        invoice = state.find("invoice", subscription["latest_invoice"])
    used = {
        each["discount"] for each in (invoice or {}).get("total_discount_amounts") or [] if each["amount"] > 0
    }
    holders = [subscription, *(state.get("subscription_item", each) for each in subscription["_items"])]
    for holder in holders:
        for identifier in list(holder["discounts"]):
            discount = state.get("discount", identifier)
            once = discount["_terms"]["duration"] == "once"
            if (once and identifier in used) or not is_live(state, identifier, at=state.now()):
                _take_off(state, holder, discount)


def end_discount(state: Sandbox, identifier: str) -> Object | None:
    """Take a discount whose months are over off what holds it. Returns the subscription that has changed.

    A subscription that has ended keeps what it ended with.
    """
    discount = state.find("discount", identifier)
    for kind in ("subscription_item", "subscription"):
        holder = state.find(kind, discount[kind]) if discount is not None and discount[kind] else None
        if holder is None or discount is None or identifier not in holder["discounts"]:
            continue
        subscription = holder if kind == "subscription" else state.get("subscription", holder["subscription"])
        if subscription["ended_at"] is None:
            _take_off(state, holder, discount)
            return subscription
    return None


def remove_discounts(state: Sandbox, holder: Object) -> None:
    """Take every discount off a subscription, an item or a customer's; past invoices keep naming them."""
    for identifier in list(holder["discounts"]):
        _take_off(state, holder, state.get("discount", identifier))


def _take_off(state: Sandbox, holder: Object, discount: Object) -> None:
    holder["discounts"] = [each for each in holder["discounts"] if each != discount["id"]]
    state.put(holder)
    state.agenda.drop("discount_end", identifier=discount["id"])
    if _is_told(discount):
        state.emit("customer.discount.deleted", discount)


def _is_told(discount: Object) -> bool:
    # customer.discount.* speak of discounts of customers and subscriptions, not of items or single invoices.
    if any(discount[name] for name in ("subscription_item", "invoice", "invoice_item")):
        return False
    return bool(discount["subscription"] or (discount["customer"] and not discount["checkout_session"]))
