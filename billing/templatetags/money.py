"""Amounts of money for people, from Stripe's integers of minor units."""

from decimal import Decimal

from django import template

register = template.Library()

# https://docs.stripe.com/currencies: how many decimal places an amount has. Two where it is not named.
# UGX is on Stripe's zero-decimal list too, but is charged with two places like ISK (see WHOLE).
ZERO_PLACES = [
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf",
]  # fmt: skip
THREE_PLACES = ["bhd", "jod", "kwd", "omr", "tnd"]
PLACES = dict.fromkeys(ZERO_PLACES, 0) | dict.fromkeys(THREE_PLACES, 3)
# Two places in the API, but always 00: people write none.
WHOLE = frozenset({"isk", "ugx"})
SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}


@register.filter
def money(amount: int, currency: str) -> str:
    """Return an amount as it is read: $29, $1,029.50, −$5, ¥500, 29.00 CHF.

    After a symbol a round sum drops its zeros; before a currency's code it keeps them.
    """
    currency = currency.lower()
    places = PLACES.get(currency, 2)
    value = abs(Decimal(amount)).scaleb(-places)
    symbol = SYMBOLS.get(currency)
    if value == value.to_integral_value() and (symbol or currency in WHOLE):
        places = 0
    sign = "−" if amount < 0 else ""
    # The spaces do not break: a number is never parted from its currency.
    digits = f"{value:,.{places}f}"
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits}\N{NO-BREAK SPACE}{currency.upper()}"


@register.filter
def unit_money(amount: Decimal | str, currency: str) -> str:
    """Return what a unit costs, from minor units with fractions, to the last digit: $0.002, $0.50, ¥0.2."""
    currency = currency.lower()
    places = PLACES.get(currency, 2)
    value = Decimal(amount).scaleb(-places).normalize()
    if value == value.to_integral_value():
        return money(int(Decimal(amount)), currency)
    places = max(places, -int(value.as_tuple().exponent))
    symbol = SYMBOLS.get(currency)
    return (
        f"{symbol}{value:,.{places}f}"
        if symbol
        else f"{value:,.{places}f}\N{NO-BREAK SPACE}{currency.upper()}"
    )
