"""Amounts as people write them, in a currency's major unit, and as Stripe takes them, in its minor one."""

import re
from decimal import Decimal

from billing.templatetags.money import PLACES, WHOLE

# Plain digits alone: a comma is a decimal point to some and a thousands separator to others.
WRITTEN = re.compile(r"[0-9]{1,12}(\.[0-9]+)?")


def parse_amount(text: str, *, currency: str) -> int:
    """Return what was written as 49.50 in minor units: 4950. Raises ValueError with a sentence."""
    written = text.strip()
    if not WRITTEN.fullmatch(written):
        raise ValueError("Write an amount such as 50 or 49.50: digits, and a point before the fraction.")
    minor = Decimal(written).scaleb(PLACES.get(currency, 2))
    step = 100 if currency in WHOLE else 1
    if minor % step:
        places = 0 if currency in WHOLE else PLACES.get(currency, 2)
        digits = f"at most {places} digits after the point" if places else "no fractions"
        raise ValueError(f"Amounts in {currency.upper()} have {digits}.")
    return int(minor)


def write_amount(amount: int, *, currency: str) -> str:
    """Return minor units as they are written: 4950 is 49.50, and 500 yen are 500."""
    places = PLACES.get(currency, 2)
    return f"{Decimal(amount).scaleb(-places):.{0 if currency in WHOLE else places}f}"
