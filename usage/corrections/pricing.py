"""What units cost by a price's tiers, to the minor unit, as Stripe's invoice says it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

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
