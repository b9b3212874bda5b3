"""Money: whole minor units, or exact Decimals until one rounding, half up, at the line."""

import decimal

from sandbox.errors import ApiError
from sandbox.store import Object

# https://docs.stripe.com/currencies: how many decimal places an amount has. Two where it is not named.
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
# Two places in the API, but the last two digits are always 00.
WHOLE = frozenset({"isk", "ugx"})
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


def places(currency: str) -> int:
    """Return how many decimal places Stripe's amounts in a currency have."""
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def check_chargeable(amount: int, currency: str, *, param: str) -> None:
    """Raise ApiError for an amount with a fraction that cannot be charged in its currency.

    ISK and UGX are whole although two places are written, and three-decimal currencies end in 0.
    """
    step = 100 if currency in WHOLE else 10 if currency in THREE_DECIMAL else 1
    if amount % step:
        raise ApiError(
            f"Invalid amount: amounts in {currency} must be evenly divisible by {step}.", param=param
        )


def amount_in(price: Object, currency: str) -> Object | None:
    """Return a price with the amounts it has in a currency, None where it is not sold in it."""
    if price["currency"] == currency:
        return price
    option = price.get("_currency_options", {}).get(currency)
    return (
        None if option is None else {**price, **option, "_tiers": option.get("tiers"), "currency": currency}
    )


def line_amount(price: Object, quantity: int, *, currency: str | None = None) -> int:
    """Return what `quantity` of a price costs, in minor units of `currency`, by default the price's own.

    Raises ValueError for a currency that the price is not sold in.
    """
    return rounded(exact_amount(price, quantity, currency=currency))


def exact_amount(price: Object, quantity: int, *, currency: str | None = None) -> decimal.Decimal:
    """Return the same before it is rounded."""
    sold = price if currency is None else amount_in(price, currency)
    if sold is None:
        raise ValueError(f"{price['id']} is not sold in {currency}")
    transform = sold.get("transform_quantity")
    if transform:
        whole, rest = divmod(quantity, transform["divide_by"])
        quantity = whole + (1 if rest and transform["round"] == "up" else 0)
    if sold["billing_scheme"] == "per_unit":
        return decimal.Decimal(sold["unit_amount_decimal"]) * quantity
    return _tiered(sold["_tiers"], sold["tiers_mode"], quantity)


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
    sign, value = ("-" if amount < 0 else ""), decimal.Decimal(abs(amount)).scaleb(-places(currency))
    digits = f"{value:,.{0 if currency in WHOLE else places(currency)}f}"
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency.upper()}"


def unit_text(exact: decimal.Decimal, currency: str) -> str:
    """Return a unit price for people, however small: $0.0005, $0.10, 0.5 JPY."""
    whole = whole_minor(exact)
    if whole is not None:
        return money_text(whole, currency)
    major = decimal_text(exact.scaleb(-places(currency)))
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{major}" if symbol else f"{major} {currency.upper()}"
