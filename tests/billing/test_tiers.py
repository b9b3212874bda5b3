"""What tiers of a price come to, against looking each unit up by itself."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.models.plans import check_tiers
from billing.terms import describe, read_terms
from sandbox.catalog.amounts import exact_amount
from sandbox.catalog.pricing import build_price
from sandbox.state import Sandbox

Tier = tuple[int | None, Decimal]

AMOUNTS = st.decimals(min_value=0, max_value=1000, places=4)
ENDS = st.one_of(st.none(), st.integers(min_value=1, max_value=40))
TIERS = st.lists(st.tuples(ENDS, AMOUNTS), max_size=5)
# Such as staff mean to write: rising, the last without an end.
RISING = st.builds(
    lambda ends, amounts: [*zip(sorted(ends), amounts, strict=False), (None, amounts[-1])],
    st.sets(st.integers(min_value=11, max_value=40), max_size=4),
    st.lists(AMOUNTS, min_size=5, max_size=5),
)


def tier_of_unit(unit: int, tiers: list[Tier]) -> int | None:
    """Look up which tier the unit of a number falls into: the first that reaches it. None where none does."""
    return next((number for number, (end, _) in enumerate(tiers) if end is None or unit <= end), None)


def is_right(tiers: list[Tier], *, included: int) -> bool:
    """Whether each unit beyond the included ones falls into a tier, and each tier has some unit of its own."""
    furthest = max([included, *(end for end, _ in tiers if end is not None)]) + 2
    hit = {tier_of_unit(unit, tiers) for unit in range(included + 1, furthest + 1)}
    return hit == set(range(len(tiers)))


def is_taken(tiers: list[Tier], *, included: int | None) -> bool:
    try:
        check_tiers(tiers, included=included)
    except ValidationError:
        return False
    return True


@given(tiers=st.one_of(TIERS.filter(bool), RISING), included=st.integers(min_value=1, max_value=10))
@settings(max_examples=500, deadline=None)
def test_tiers_are_taken_where_each_unit_has_one_price_and_no_tier_is_idle(tiers, included):
    assert is_taken(tiers, included=included) == is_right(tiers, included=included)


@given(tiers=TIERS.filter(bool))
def test_unlimited_units_leave_nothing_to_price(tiers):
    assert not is_taken(tiers, included=None)


def test_no_tiers_are_fine_whatever_is_included():
    assert is_taken([], included=None)
    assert is_taken([], included=10)


@given(
    tiers=RISING,
    included=st.integers(min_value=1, max_value=10),
    units=st.integers(min_value=0, max_value=60),
)
@settings(max_examples=200, deadline=None)
def test_stripe_charges_the_sum_of_what_each_unit_costs(tiers, included, units):
    """By the stand-in's graduated tiers, from what publishing sends."""
    sent = [{"up_to": included, "unit_amount_decimal": Decimal(0)}]
    sent += [{"up_to": end or "inf", "unit_amount_decimal": amount} for end, amount in tiers]
    sandbox = Sandbox()
    params = {"currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": sent}
    price = build_price(sandbox, params, product="prod_1")

    table = [(included, Decimal(0)), *tiers]
    hit = [tier_of_unit(unit, table) for unit in range(1, units + 1)]

    assert exact_amount(price, units) == sum(table[number][1] for number in hit if number is not None)


def stripe_price(**fields):
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "licensed", "meter": None}
    price = {
        "currency": "usd",
        "recurring": recurring,
        "billing_scheme": "per_unit",
        "unit_amount": 2900,
        "tiers_mode": None,
        "transform_quantity": None,
        "custom_unit_amount": None,
    }
    return price | fields


def test_a_plain_fee_is_read():
    assert read_terms(stripe_price(), meters={}) == {
        "currency": "usd",
        "interval": "month",
        "unit_amount": 2900,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"recurring": None},
        {"recurring": {"interval": "week", "interval_count": 1, "usage_type": "licensed"}},
        {"recurring": {"interval": "month", "interval_count": 2, "usage_type": "licensed"}},
        {
            "recurring": {
                "interval": "month",
                "interval_count": 1,
                "usage_type": "metered",
                "meter": "mtr_theirs",
            }
        },
        {"unit_amount": None},
        {"transform_quantity": {"divide_by": 10, "round": "up"}},
        {"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": []},
        {
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [{"up_to": None, "unit_amount_decimal": "1", "flat_amount_decimal": "500"}],
        },
    ],
)
def test_what_no_price_of_ours_could_charge_has_no_terms(fields):
    assert read_terms(stripe_price(**fields), meters={"mtr_ours": "requests"}) is None


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"currency": "usd", "interval": "month", "unit_amount": 2900}, "$29 a month"),
        ({"currency": "jpy", "interval": "year", "unit_amount": 50_000}, "¥50,000 a year"),
        ({"currency": "usd", "interval": "month", "meter": "requests", "unit_amount": 0}, "free of charge"),
        (
            {
                "currency": "usd",
                "interval": "month",
                "meter": "requests",
                "tiers": [
                    {"up_to": 10_000, "unit_amount_decimal": "0"},
                    {"up_to": 50_000, "unit_amount_decimal": "0.2"},
                    {"up_to": "inf", "unit_amount_decimal": "100"},
                ],
            },
            "10,000 calls included, then $0.002 a call up to 50,000, then $1 a call",
        ),
        (
            {
                "currency": "chf",
                "interval": "month",
                "meter": "requests",
                "tiers": [{"up_to": "inf", "unit_amount_decimal": "2.5"}],
            },
            "0.025\N{NO-BREAK SPACE}CHF a call",
        ),
    ],
)
def test_terms_are_said_in_words(terms, words):
    assert describe(terms, unit="call") == words
