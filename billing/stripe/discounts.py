"""Which share of a metered price is left after a customer's discounts, as they were when it was billed."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billing.errors import DiscountUnclear, StripeRejected
from billing.stripe.client import get_client, translated_errors
from billing.stripe.invoice_items import all_lines

UNCLEAR = (
    "What its discounts leave of a unit's price cannot be told here: settle it at Stripe, and accept it."
)


def share_on_invoice(
    invoice_id: str, *, price_id: str, product_id: str, period: tuple[int, int], is_credit: bool
) -> Fraction:
    """Return what one more minor unit on the lines of a price and period would have added to a final invoice.

    With percentages alone it is what they leave, also of lines that cost nothing. An amount that was taken off in full
    changes nothing for what is added, but may for what is given back.
    Raises DiscountUnclear where that cannot be told for certain, StripeUnavailable or StripeRejected.
    """
    with translated_errors():
        expand = ["discounts", "lines.data.discounts"]
        data = get_client().v1.invoices.retrieve(invoice_id, {"expand": expand}).to_dict()
    listed = data["lines"]
    lines = [
        line
        for line in (all_lines(invoice_id) if listed.get("has_more") else listed["data"])
        if price_of(line) == price_id and (line["period"]["start"], line["period"]["end"]) == period
    ]
    own = [each for line in lines for each in line["discounts"] or []]
    if any(isinstance(each, str) for each in own):
        raise DiscountUnclear(UNCLEAR)
    found = {each["id"]: each for each in [*own, *(data["discounts"] or [])]}
    live = [each for each in found.values() if is_live(each, at=data["created"])]
    taken = {each["discount"]: each["amount"] for each in data["total_discount_amounts"] or []}
    share, has_amount = Fraction(1), False
    for discount in live:
        coupon = coupon_of(discount, product_id=product_id)
        if coupon is None:
            continue
        share *= kept(coupon)
        if coupon["amount_off"] is not None:
            has_amount = True
            is_used_up = taken.get(discount["id"]) == coupon["amount_off"]
            if is_credit or not is_used_up or coupon["currency"] != data["currency"]:
                raise DiscountUnclear(UNCLEAR)
    if not has_amount:
        check_taken(lines, share, discounts=len(live))
    return share


def check_taken(lines: Iterable[Mapping[str, Any]], share: Fraction, *, discounts: int) -> None:
    """Raise DiscountUnclear where the lines lost another share: Stripe rounds once for each discount and line."""
    for line in lines:
        off = sum(each["amount"] for each in line["discount_amounts"] or [])
        if abs(line["amount"] * (1 - share) - off) > discounts:
            raise DiscountUnclear(UNCLEAR)


def share_at_end(subscription_id: str, *, price_id: str, product_id: str) -> Fraction:
    """Return what the discounts that a subscription ended with leave of a price, where it was never invoiced.

    Raises DiscountUnclear for an amount off, which is taken off a whole invoice; StripeUnavailable or StripeRejected.
    """
    with translated_errors():
        expand = ["discounts", "items.data.discounts", "customer"]
        data = get_client().v1.subscriptions.retrieve(subscription_id, {"expand": expand}).to_dict()
    own = [
        each
        for item in data["items"]["data"]
        if item["price"]["id"] == price_id
        for each in item["discounts"] or []
    ]
    # The customer's own counts where the subscription has none.
    customers = [data["customer"].get("discount")] if data["customer"].get("discount") else []
    found = {each["id"]: each for each in [*own, *(data["discounts"] or customers)]}
    share = Fraction(1)
    for discount in found.values():
        if not is_live(discount, at=data["ended_at"]):
            continue
        coupon = coupon_of(discount, product_id=product_id)
        if coupon is None:
            continue
        if coupon["amount_off"] is not None:
            raise DiscountUnclear(UNCLEAR)
        share *= kept(coupon)
    return share


def price_of(line: Mapping[str, Any]) -> str:
    return str(((line.get("pricing") or {}).get("price_details") or {}).get("price"))


def is_live(discount: Mapping[str, Any], *, at: int) -> bool:
    return discount["end"] is None or bool(discount["end"] > at)


def coupon_of(discount: Mapping[str, Any], *, product_id: str) -> dict[str, Any] | None:
    """Return a discount's coupon, None where it is for other products.

    Raises DiscountUnclear where the coupon was deleted: what of it applies to which product nobody says any more.
    """
    source = (discount.get("source") or {}).get("coupon")
    coupon_id = source if isinstance(source, str) else (source or {}).get("id")
    if not coupon_id:
        raise DiscountUnclear(UNCLEAR)
    try:
        with translated_errors():
            coupon = get_client().v1.coupons.retrieve(coupon_id, {"expand": ["applies_to"]}).to_dict()
    except StripeRejected as error:
        if error.code != "resource_missing":
            raise
        raise DiscountUnclear(UNCLEAR) from error
    products = (coupon.get("applies_to") or {}).get("products")
    return coupon if products is None or product_id in products else None


def kept(coupon: Mapping[str, Any]) -> Fraction:
    """Return the share that a coupon's percentage leaves; all where it takes off an amount."""
    percent = coupon["percent_off"]
    return Fraction(1) if percent is None else 1 - Fraction(Decimal(str(percent))) / 100
