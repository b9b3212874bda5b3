"""What a quantity costs: tiers, packages and fractions of a cent."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.sandbox.worked.life import Life

GRADUATED = [
    {"up_to": 10, "unit_amount": 500},
    {"up_to": 20, "unit_amount": 400},
    {"up_to": "inf", "unit_amount": 300},
]
WITH_FLAT_FEES = [
    {"up_to": 10, "unit_amount": 100, "flat_amount": 1000},
    {"up_to": "inf", "unit_amount": 50, "flat_amount": 2000},
]


@pytest.fixture
def bill(life: Life) -> Callable[..., int]:
    """Return what the first invoice for a quantity of a price comes to."""

    def total(quantity: int, amount: int | None = None, **price: Any) -> int:
        life.subscribe({"price": life.price(amount, **price).id, "quantity": quantity})
        return life.last().total

    return total


@pytest.mark.parametrize(
    ("quantity", "total"),
    [
        (1, 500),
        (5, 2500),  # 5 × 500
        (10, 5000),  # 10 × 500, the edge belongs to the first tier
        (11, 5400),  # 10 × 500 + 1 × 400
        (20, 9000),  # 10 × 500 + 10 × 400
        (21, 9300),  # 10 × 500 + 10 × 400 + 1 × 300
    ],
)
def test_graduated_tiers_price_each_unit_by_its_place(
    bill: Callable[..., int], quantity: int, total: int
) -> None:
    assert bill(quantity, billing_scheme="tiered", tiers_mode="graduated", tiers=GRADUATED) == total


@pytest.mark.parametrize(
    ("quantity", "total"),
    [
        (1, 1100),  # 1000 + 1 × 100
        (10, 2000),  # 1000 + 10 × 100
        (11, 4050),  # 1000 + 10 × 100 + 2000 + 1 × 50
    ],
)
def test_a_graduated_flat_fee_is_due_for_each_tier_entered(
    bill: Callable[..., int], quantity: int, total: int
) -> None:
    assert bill(quantity, billing_scheme="tiered", tiers_mode="graduated", tiers=WITH_FLAT_FEES) == total


@pytest.mark.parametrize(
    ("quantity", "total"),
    [
        (10, 5000),  # 10 × 500
        (11, 4400),  # 11 × 400
        (20, 8000),  # 20 × 400
        (21, 6300),  # 21 × 300
    ],
)
def test_volume_tiers_price_all_units_by_the_last(
    bill: Callable[..., int], quantity: int, total: int
) -> None:
    assert bill(quantity, billing_scheme="tiered", tiers_mode="volume", tiers=GRADUATED) == total


@pytest.mark.parametrize(("quantity", "total"), [(10, 2000), (11, 2550)])
def test_a_volume_flat_fee_is_that_of_the_tier_reached(
    bill: Callable[..., int], quantity: int, total: int
) -> None:
    # 10: 1000 + 10 × 100. 11: 2000 + 11 × 50.
    assert bill(quantity, billing_scheme="tiered", tiers_mode="volume", tiers=WITH_FLAT_FEES) == total


@pytest.mark.parametrize(
    ("rounding", "quantity", "total"),
    [
        ("up", 25, 2100),  # 25 / 10 → 3 packages of 700
        ("down", 25, 1400),  # 25 / 10 → 2 packages of 700
        ("up", 20, 1400),  # exactly 2
        ("up", 1, 700),
        ("down", 9, 0),
    ],
)
def test_packages_round_the_quantity(
    bill: Callable[..., int], rounding: str, quantity: int, total: int
) -> None:
    assert bill(quantity, 700, transform_quantity={"divide_by": 10, "round": rounding}) == total


@pytest.mark.parametrize(
    ("unit", "quantity", "total"),
    [
        ("0.05", 9, 0),  # 0.45
        ("0.05", 10, 1),  # 0.5, half up
        ("0.05", 29, 1),  # 1.45
        ("0.05", 30, 2),  # 1.5, half up
        ("12.345", 3, 37),  # 37.035
        ("12.345", 100, 1235),  # 1234.5, half up
        ("0.000001", 500_000, 1),  # 0.5, half up
    ],
)
def test_fractions_of_a_cent_are_rounded_half_up_once(
    bill: Callable[..., int], unit: str, quantity: int, total: int
) -> None:
    assert bill(quantity, unit_amount_decimal=unit) == total
