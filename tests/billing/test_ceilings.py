"""How many units a spend cap allows."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.amounts import parse_amount, write_amount
from billing.ceilings import units_within

FAR = 400  # Beyond the last unit that any of the drawn caps allows.


def tiers_of(*rows: tuple[int | str, str]) -> list[dict[str, Any]]:
    return [{"up_to": up_to, "unit_amount_decimal": amount} for up_to, amount in rows]


def bill(units: int, tiers: list[dict[str, Any]]) -> tuple[Decimal, int]:
    """Return what units cost, each put into its tier by hand: exactly, and as an invoice rounds it line by line."""
    lines = [Decimal(0) for _ in tiers]
    for unit in range(1, units + 1):
        number = next(n for n, tier in enumerate(tiers) if tier["up_to"] == "inf" or unit <= tier["up_to"])
        lines[number] += Decimal(tiers[number]["unit_amount_decimal"])
    return sum(lines, Decimal(0)), sum(int(line.quantize(Decimal(1), ROUND_HALF_UP)) for line in lines)


@st.composite
def price_tiers(draw: st.DrawFn) -> list[dict[str, Any]]:
    ends = sorted(draw(st.sets(st.integers(1, 60), max_size=3)))
    # No price so small that walking to the cap unit by unit would take long.
    some = st.decimals("0.05", "7", places=2).map(lambda amount: f"{amount.normalize():f}")
    amounts = st.one_of(st.just("0"), some)
    return tiers_of(*((end, draw(amounts)) for end in ends), ("inf", draw(amounts)))


@given(price_tiers(), st.integers(0, 100))
def test_it_is_the_last_unit_that_both_the_exact_sum_and_the_invoice_s_lines_allow(tiers, cap):
    found = units_within(cap, tiers)

    def fits(units: int) -> bool:
        return max(bill(units, tiers)) <= cap

    if found is None:
        assert tiers[-1]["unit_amount_decimal"] == "0"
        assert fits(FAR)
    else:
        assert fits(found)
        # What a further unit costs may be less than is rounded to anything.
        assert not fits(found + 1)


@pytest.mark.parametrize(
    ("cap", "units"),
    [
        (0, 1_000),
        (1, 1_005),  # 5 × 0.2 is a cent exactly.
        (800, 5_000),  # The whole second tier.
        (801, 5_010),
        (10_000, 96_999 + 1),
    ],
)
def test_graduated_tiers_are_walked_from_the_first_unit(cap, units):
    assert units_within(cap, tiers_of((1_000, "0"), (5_000, "0.2"), ("inf", "0.1"))) == units


def test_two_tiers_that_are_both_rounded_up_stay_within_the_cap():
    # 3 × 0.5 and 1 × 0.5 are two cents exactly, but three on the invoice.
    tiers = tiers_of((3, "0.5"), ("inf", "0.5"))

    assert units_within(2, tiers) == 3


def test_what_costs_nothing_is_never_too_much():
    assert units_within(0, tiers_of(("inf", "0"))) is None


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("50", "usd", 5000),
        (" 49.50 ", "usd", 4950),
        ("0", "eur", 0),
        ("500", "jpy", 500),
        ("500.0", "jpy", 500),
        ("1.234", "kwd", 1234),
        ("500", "isk", 50_000),
        ("0.1", "usd", 10),
    ],
)
def test_an_amount_is_read_to_the_minor_unit(text, currency, minor):
    assert parse_amount(text, currency=currency) == minor
    assert parse_amount(write_amount(minor, currency=currency), currency=currency) == minor


@pytest.mark.parametrize(
    ("text", "currency", "sentence"),
    [
        ("", "usd", "Write an amount"),
        ("-5", "usd", "Write an amount"),
        ("1,000", "usd", "Write an amount"),
        ("1e3", "usd", "Write an amount"),
        ("NaN", "usd", "Write an amount"),
        ("٥", "usd", "Write an amount"),
        ("9" * 13, "usd", "Write an amount"),
        ("0.001", "usd", "Amounts in USD have at most 2 digits after the point."),
        ("500.5", "jpy", "Amounts in JPY have no fractions."),
        ("500.5", "isk", "Amounts in ISK have no fractions."),
    ],
)
def test_what_is_no_amount_is_refused_with_a_sentence(text, currency, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_amount(text, currency=currency)
