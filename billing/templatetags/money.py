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
    return unit_money(Decimal(amount), currency)


@register.filter
def unit_money(amount: Decimal | str, currency: str) -> str:
    """Return what one unit costs, from minor units that may have fractions: $0.002, $29, 0.15 CHF."""
    currency, amount = currency.lower(), Decimal(amount)
    places = PLACES.get(currency, 2)
    value = abs(amount).scaleb(-places).normalize()
    symbol = SYMBOLS.get(currency)
    if value == value.to_integral_value() and (symbol or currency in WHOLE):
        places = 0
    sign = "−" if amount < 0 else ""
    # The spaces do not break: a number is never parted from its currency.
    digits = f"{value:,.{max(places, -int(value.as_tuple().exponent))}f}"
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits}\N{NO-BREAK SPACE}{currency.upper()}"
