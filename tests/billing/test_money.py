from decimal import Decimal

import pytest

from billing.templatetags.money import money, unit_money


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (2900, "usd", "$29"),
        (2950, "usd", "$29.50"),
        (5, "usd", "$0.05"),
        (0, "eur", "€0"),
        (123_456_700, "gbp", "£1,234,567"),
        (-500, "usd", "−$5"),
        (500, "jpy", "¥500"),
        (2900, "chf", "29.00\N{NO-BREAK SPACE}CHF"),
        (2900, "CHF", "29.00\N{NO-BREAK SPACE}CHF"),
        (1500, "krw", "1,500\N{NO-BREAK SPACE}KRW"),
        (5120, "kwd", "5.120\N{NO-BREAK SPACE}KWD"),
        (500, "isk", "5\N{NO-BREAK SPACE}ISK"),
        (500, "ugx", "5\N{NO-BREAK SPACE}UGX"),
    ],
)
def test_an_amount_reads_as_people_write_it(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def test_an_amount_larger_than_a_float_holds_stays_exact() -> None:
    assert money(9_007_199_254_740_993, "usd") == "$90,071,992,547,409.93"


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0.2", "usd", "$0.002"),
        ("0.000000000001", "usd", "$0.00000000000001"),
        ("2.5", "usd", "$0.025"),
        ("50.000000000000", "usd", "$0.50"),
        ("100", "usd", "$1"),
        ("0", "usd", "$0"),
        ("0.5", "jpy", "¥0.5"),
        ("15", "chf", "0.15\N{NO-BREAK SPACE}CHF"),
        ("0.05", "isk", "0.0005\N{NO-BREAK SPACE}ISK"),
    ],
)
def test_the_price_of_a_unit_shows_every_place_it_has(amount: str, currency: str, text: str) -> None:
    assert unit_money(Decimal(amount), currency) == text
