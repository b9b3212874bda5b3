"""Money: whole minor units, or exact Decimals until one rounding, half up, at the line."""

import decimal

from sandbox.store import Object

# Stripe's currencies without a minor unit; every other one here has two places.
ZERO_DECIMAL = frozenset(
    [
        "bif",
        "clp",
        "djf",
        "gnf",
        "jpy",
        "kmf",
        "krw",
        "mga",
        "pyg",
        "rwf",
        "ugx",
        "vnd",
        "vuv",
        "xaf",
        "xof",
        "xpf",
    ]
)
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


def whole_minor(exact: decimal.Decimal) -> int | None:
    """Return whole minor units, or None for an amount with a fraction, as Stripe's unit_amount does."""
    return int(exact) if exact == exact.to_integral_value() else None


def decimal_text(exact: decimal.Decimal) -> str:
    """Return the shortest plain decimal text: 12.5, 20, 0.001."""
    text = format(exact, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded(exact: decimal.Decimal) -> int:
    return int(exact.quantize(decimal.Decimal(1), rounding=decimal.ROUND_HALF_UP))


def line_amount(price: Object, quantity: int) -> int:
    """Return what `quantity` of a price costs, in minor units."""
    transform = price.get("transform_quantity")
    if transform:
        whole, rest = divmod(quantity, transform["divide_by"])
        quantity = whole + (1 if rest and transform["round"] == "up" else 0)
    if price["billing_scheme"] == "per_unit":
        return rounded(decimal.Decimal(price["unit_amount_decimal"]) * quantity)
    return rounded(_tiered(price["_tiers"], price["tiers_mode"], quantity))


def _tiered(tiers: list[Object], mode: str, quantity: int) -> decimal.Decimal:
    total, lower = decimal.Decimal(0), 0
    for index, tier in enumerate(tiers):
        upper = tier["up_to"]
        unit = decimal.Decimal(tier["unit_amount_decimal"] or 0)
        flat = decimal.Decimal(tier["flat_amount_decimal"] or 0)
        inside = upper is None or quantity <= upper
        if mode == "volume":
            if inside:
                return flat + unit * quantity
        else:
            # A graduated tier's flat fee falls due once the tier is entered; the first is always entered.
            if quantity > lower or index == 0:
                total += flat + unit * (quantity - lower if inside else upper - lower)
            if inside:
                return total
            lower = upper
    return total


def money_text(amount: int, currency: str) -> str:
    """Return an amount of minor units for people: $49.00, 5,000 JPY."""
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    digits = f"{size:,}" if currency in ZERO_DECIMAL else f"{size // 100:,}.{size % 100:02d}"
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency.upper()}"


def unit_text(exact: decimal.Decimal, currency: str) -> str:
    """Return a unit price for people, however small: $0.0005, $0.10, 0.5 JPY."""
    whole = whole_minor(exact)
    if whole is not None:
        return money_text(whole, currency)
    major = decimal_text(exact if currency in ZERO_DECIMAL else exact / 100)
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{major}" if symbol else f"{major} {currency.upper()}"
