"""A sample of random histories; `make histories` plays a thousand."""

import datetime
import pathlib
from fractions import Fraction

import hypothesis
import pytest

from tests.sandbox.histories.actions import ACTIONS, Step, plans
from tests.sandbox.histories.model import METERED, MONTHLY, coverage, half_up, heights
from tests.sandbox.histories.play import BEGIN, MONTHS_24, play
from tests.sandbox.histories.watching import check_invoice, rewound

pytestmark = pytest.mark.long


@pytest.mark.parametrize("part", range(4))
@hypothesis.settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(plan=plans(6))
def test_random_lives_hold_every_invariant(part: int, plan: list[Step]) -> None:
    play([plan[0], *(Step(each.wait, each.do, each.a + part, each.b, each.c) for each in plan[1:])])


def test_a_life_of_everything_holds_every_invariant_and_a_restart(tmp_path: pathlib.Path) -> None:
    plan = [Step(0, "subscribe", 2, 1, 2), Step(24, "subscribe", 4, 0, 4)]
    for turn in range(3):
        for number, name in enumerate(ACTIONS):
            plan.append(Step((11 * 24, 3 * 24, 47)[turn], name, number, number + turn, number * 3 + turn))
    tally = play(plan, path=tmp_path / "state.sqlite3")

    assert tally.events > 100
    assert sum(tally.refused.values()) < sum(tally.done.values()) / 3, tally.refused


def test_a_history_lasts_24_months() -> None:
    begin = datetime.datetime.fromtimestamp(BEGIN, tz=datetime.UTC)
    end = datetime.datetime.fromtimestamp(BEGIN + MONTHS_24, tz=datetime.UTC)
    assert (begin.isoformat()[:10], end.isoformat()[:10]) == ("2026-02-01", "2028-02-01")


def test_the_model_counts_as_a_person_does() -> None:
    # 5 × 700 + 2 × 500 = 4500; (130 − 100) × 2.5 = 75; 3 × 333.3 = 999.9.
    assert MONTHLY[3].cost(7) == 4500
    assert METERED[1].cost(130) == 75
    assert half_up(MONTHLY[4].cost(3)) == 1000
    assert [half_up(Fraction(each)) for each in ("0.5", "1.4", "-0.6")] == [1, 1, -1]


def test_the_model_finds_time_billed_twice_and_never() -> None:
    # 0–10 once, 10–12 never, 12–20 once, and again from 15 to 20.
    spans = [(0, 10, 1), (12, 20, 1), (15, 20, 1)]
    assert list(coverage(spans)) == [(0, 10, 1), (10, 12, 0), (12, 15, 1), (15, 20, 2)]
    assert heights(spans, start=0, end=10) == [(0, 10, 1)]
    assert heights(spans, start=9, end=13) == [(9, 10, 1), (10, 12, 0), (12, 13, 1)]
    assert heights(spans, start=12, end=25) == [(12, 15, 1), (15, 20, 2), (20, 25, 0)]
    assert heights([], start=1, end=3) == [(1, 3, 0)]


def test_an_invoice_that_does_not_add_up_is_found() -> None:
    invoice = {
        "id": "in_1",
        "status": "paid",
        "lines": {"data": [{"amount": 100, "discount_amounts": [], "taxes": []}], "has_more": False},
        "total_discount_amounts": [],
        "total_taxes": [],
        "subtotal": 100,
        "total": 100,
        "total_excluding_tax": 100,
        "amount_due": 100,
        "amount_paid": 100,
        "amount_remaining": 0,
        "starting_balance": 0,
        "ending_balance": 0,
        "pre_payment_credit_notes_amount": 0,
    }
    check_invoice(invoice, where="here")
    for wrong in ({"subtotal": 99}, {"total": 101}, {"amount_remaining": 1}, {"ending_balance": -5}):
        with pytest.raises(AssertionError):
            check_invoice({**invoice, **wrong}, where="here")


def test_previous_attributes_lead_back() -> None:
    now = {"status": "active", "metadata": {"a": "2", "b": "1"}, "items": [2]}
    assert rewound(now, {"status": "trialing", "metadata": {"a": "1"}, "items": [1]}) == {
        "status": "trialing",
        "metadata": {"a": "1", "b": "1"},
        "items": [1],
    }
