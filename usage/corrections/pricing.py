"""What units cost by a price's tiers, to the minor unit, as Stripe's invoice says it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

from billing.stripe.discounts import share_at_end, share_on_invoice
from usage.proof.invoicing import Billed

HALF = Fraction(1, 2)


def charge(units: int, tiers: Iterable[Mapping[str, Any]]) -> int:
    """Return what `units` cost in minor units, by graduated `tiers` as in `PlanPrice.terms`.

    Each tier is a line of its own on Stripe's invoice, rounded half up.
    """
    total = lower = 0
    for tier in tiers:
        upper = None if tier["up_to"] == "inf" else int(tier["up_to"])
        inside = max((units if upper is None else min(units, upper)) - lower, 0)
        total += floor(Fraction(Decimal(tier["unit_amount_decimal"])) * inside + HALF)
        if upper is None or units <= upper:
            break
        lower = upper
    return total


def net(units: int, tiers: Iterable[Mapping[str, Any]], *, share: Fraction) -> int:
    """Return what `units` cost where discounts leave a `share` of the price.

    Rounded half up as a sum: so several corrections of a period come to what one for all of them would.
    """
    return floor(charge(units, tiers) * share + HALF)


def share_of(billed: Billed, *, product_id: str, is_credit: bool) -> Fraction:
    """Return what the discounts of an invoice's period left of its price, asked at Stripe: later ones may differ.

    Raises DiscountUnclear, StripeUnavailable or StripeRejected.
    """
    if not billed.invoice_id:
        return share_at_end(billed.subscription_id, price_id=billed.price_id, product_id=product_id)
    return share_on_invoice(
        billed.invoice_id,
        price_id=billed.price_id,
        product_id=product_id,
        period=(int(billed.start.timestamp()), int(billed.end.timestamp())),
        is_credit=is_credit,
    )
